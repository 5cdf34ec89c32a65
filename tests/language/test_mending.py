"""`check --fix`: what it writes can be read, says what it said, and has no error where there was none."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ftdsl.cli.mending import mended
from ftdsl.diagnostics import Diagnostic, Edit, Fix, Severity, Sink
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.source import Source, Span
from tests.conftest import ALPACA, CORPUS, EXAMPLES, ftc

AWKWARD = [
    'a"b',
    "a'b",
    "a\\b",
    "a{{b}}",
    "a\\nb",
    "a\\u{22}b",
    "${X}",
    "a#b",
    "a/b/c",
    "",
    "a{b}",
    "é 日",
    "x.json",
    '\\"',
    "\\\\",
]


def literals(text: str) -> list[str]:
    """Ways to write it."""
    double = text if '"' not in text.replace('\\"', "") else text.replace('"', '\\"')
    return [f'"{double}"', f"'{text}'" if "'" not in text else '""', f'"""{text}"""' if '"' not in text else "''''''"]


def syntax_errors(text: str) -> list[str]:
    sink = Sink()
    parse(Source("x", text), sink)
    return [one.message for one in sink if one.code.startswith("FT03")]


def values(text: str) -> list[object]:
    """The strings of a recipe, by what they hold."""
    found: list[object] = []

    def walk(node: object) -> None:
        if isinstance(node, tree.Text):
            found.append(tuple(p if isinstance(p, str) else tuple(w.text for w in p.path) for p in node.parts))
        if isinstance(node, list | tuple):
            for inner in node:
                walk(inner)
        for name in getattr(type(node), "__match_args__", ()):
            if not isinstance(value := getattr(node, name), Span | Source):
                walk(value)

    walk(parse(Source("x", text), Sink()).items)
    return found


@pytest.mark.parametrize("key", ["model", "data", "to", "rank", "template", "schedule", "precision", "nonsense"])
@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.slow
def test_escapes_are_kept(text: str, key: str, tmp_path: Path) -> None:
    for at, literal in enumerate(literals(text)):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
        other = "" if key in ("model", "data") else 'model = hf("a/b"), data = file("rows.jsonl"), '
        before = f"sft {{ {other}{key} = {literal} }}\n"
        (folder / "r.ft").write_text(before, encoding="utf-8")
        done = ftc("check", "--fix", "--unsafe-fixes", "r.ft", cwd=folder)
        after = (folder / "r.ft").read_text(encoding="utf-8")
        assert "Traceback" not in done.stderr
        assert not syntax_errors(after) or syntax_errors(before), after
        if key in ("model", "data") and not syntax_errors(before):
            assert values(before)[-1] in values(after), (before, after)


@pytest.mark.parametrize("mutants", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", [*EXAMPLES, *CORPUS], ids=lambda path: path.stem)
@pytest.mark.slow
def test_mutants_stay_readable(path: Path, mutants: int, tmp_path: Path) -> None:
    """Words put into quotes, doubled, taken out, joined: whatever is mended, it can be read."""
    from functools import partial

    from ftdsl.cli.check import _examined
    from ftdsl.cli.main import parser

    text = path.read_text(encoding="utf-8")
    args = parser(["check"]).parse_args(["check", "r.ft"])
    draw = random.Random(path.name)
    for _ in range(mutants):
        lines = text.split("\n")
        for _ in range(3):
            at = draw.randrange(len(lines))
            change = draw.choice(["=", ":", '"', "'", "}", "{", ",", "x", "hf(", ")", '"a\\"b"', " = = ", "\\"])
            cut = draw.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:cut] + change + lines[at][cut:]
        before = "\n".join(lines)
        result = mended(path.with_name("r.ft"), before, partial(_examined, args), unsafe=True)
        assert len(syntax_errors(result.text)) <= len(syntax_errors(before))


def found(text: str, edits: list[tuple[int, int, str]], errors: int = 0) -> list[Diagnostic]:
    source = Source("r.ft", text)
    some = [
        Diagnostic("FT001", str(edit), Span(source, edit[0], edit[1]), Severity.WARNING,
                   fix=Fix(f"fix {edit}", (Edit(Span(source, edit[0], edit[1]), edit[2]),)))
        for edit in edits
    ]  # fmt: skip
    return [*some, *(Diagnostic("FT030", str(n), Span(source, 0, 1)) for n in range(errors))]


def test_a_fix_that_breaks_is_left_out_and_the_others_are_not() -> None:
    def examine(path: Path, text: str) -> list[Diagnostic]:
        edits = [(at, at + 1, "BAD" if char == "b" else "") for at, char in enumerate(text) if char in "ab"]
        return found(text, edits, errors=text.count("BAD"))

    result = mended(Path("r.ft"), "xaxbxax", examine, unsafe=False)
    assert result.text == "xxbxx"
    assert result.count == 2
    assert next(title for _, title in result.refused).endswith("'BAD')")


def test_a_fix_that_makes_an_error_of_a_warning_is_left_out(tmp_path: Path) -> None:
    def examine(path: Path, text: str) -> list[Diagnostic]:
        if "!" in text:
            return [Diagnostic("FT002", "wrong", Span(Source("r.ft", text), 0, 1))]
        return found(text, [(0, 1, "!")])

    assert mended(Path("r.ft"), "x", examine, unsafe=False).text == "x"


def test_a_fix_that_brings_other_errors_to_light_is_taken(tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text(
        'sft { lora: { rnak = 3 } }\nsft x { model: hf("a/b"), zzz = 1 }\n', encoding="utf-8"
    )
    done = ftc("check", "--fix", "r.ft", cwd=tmp_path)
    assert 'model = hf("a/b")' in (tmp_path / "r.ft").read_text(encoding="utf-8")
    assert "FT001" in done.stdout


def test_a_yaml_of_warnings_gets_no_error(tmp_path: Path) -> None:
    text = "stage: sft\ndo_train: true\nmodel_name_or_path: a/b\ndataset: x\ntemplate: qwen\noutput_dir: o\nswanlab_mode: true\n"
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    before = ftc("check", "a.yaml", cwd=tmp_path)
    ftc("check", "--fix", "a.yaml", cwd=tmp_path)
    after = ftc("check", "a.yaml", cwd=tmp_path)
    assert after.returncode <= before.returncode


def test_what_no_verb_may_break_is_not_written(tmp_path: Path) -> None:
    from ftdsl.cli.common import rewrite

    for name, before, after in (("a.ft", "x = 1\n", "x = {\n"), ("a.yaml", "x: 1\n", "x: [\n"), ("a.json", "{}", "{")):
        (tmp_path / name).write_text(before, encoding="utf-8")
        assert not rewrite(tmp_path / name, before, after)
        assert (tmp_path / name).read_text(encoding="utf-8") == before
        assert rewrite(tmp_path / name, after, before), "what could not be read before may stay so"


@pytest.mark.parametrize(
    "rest", ["b in", "b in [", "b in c", "b in c(", "b ~", "b ~ c", "b ~ uniform(", "b", "in", "~ c"]
)
@pytest.mark.parametrize("before", ["system = You are a poet, ", "sft { system = You are a poet, ", "x(You are, "])
def test_a_sentence_before_what_is_cut(before: str, rest: str) -> None:
    """The file ends while an editor's user writes."""
    sink = Sink()
    parse(Source("r.ft", before + rest), sink)
    assert sink.failed
