"""What holds for every text: no crash, spans inside the file, formatting that keeps all and settles at once."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdsl.diagnostics import Sink
from ftdsl.diagnostics.render_json import render as render_json
from ftdsl.diagnostics.render_text import render
from ftdsl.language.format import format_text
from ftdsl.language.parser import parse
from ftdsl.language.resolve.resolve import Options
from ftdsl.language.units import SCALES
from ftdsl.pipeline import check
from ftdsl.recipe.validate import problems
from ftdsl.session import Files, Session
from ftdsl.source import Source
from tests.conftest import CORPUS, EXAMPLES, ROOT, ftc_process

TEXTS = [path.read_text(encoding="utf-8") for path in [*EXAMPLES, *CORPUS]]
PIECES = sorted({word for text in TEXTS for word in text.replace("(", " ( ").replace(",", " , ").split()})
HERE = ROOT / "examples" / "fuzzed.ft"


def look(text: str) -> list[int]:
    """Everything a check does with a text; the offsets of what it found."""
    session = Session(Files({HERE: text}), env={})
    check(HERE, Options(), session)
    places = []
    for one in session.sink:
        spans = [one.span, *(label.span for label in one.labels), *(e.span for e in (one.fix.edits if one.fix else ()))]
        for span in spans:
            if span is not None and span.source.text == text:
                assert 0 <= span.start <= span.end <= len(text), (one.code, span.start, span.end)
                places.append(span.start)
        assert one.message and one.code.startswith("FT")
    render(session.sink.ordered(), color=True)
    render_json(session.sink)
    return places


def mutants(seed: int, count: int) -> Iterator[str]:
    """Recipes with a few things cut, doubled, swapped, replaced or put in, the way hands and merges do it."""
    rng = random.Random(seed)
    strange = [
        *list("{}()[]=,:~#\\-\x00\té雪"),
        '"',
        "'",
        '"""',
        "..",
        "{x}",
        "1e",
        "5%",
        "9" * 20,
        "from",
        "in",
        "null",
    ]
    strange += ["\r\n", "\u202e", "\ud7ff"]
    for _ in range(count):
        text = rng.choice(TEXTS)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
            at = rng.randrange(len(text) + 1)
            end = min(len(text), at + rng.choice((1, 1, 2, 5, 20, 80)))
            kind = rng.randrange(7)
            if kind == 0:
                text = text[:at] + text[end:]
            elif kind == 1:
                text = text[:at] + text[at:end] * 2 + text[end:]
            elif kind == 2:
                text = text[:at] + rng.choice(strange) + text[at:]
            elif kind == 3:
                text = text[:at] + rng.choice(strange) + text[end:]
            elif kind == 4:
                text = text[:at] + f" {rng.choice(PIECES)} " + text[end:]
            elif kind == 5:
                lines = text.split("\n")
                lines.insert(rng.randrange(len(lines)), rng.choice(rng.choice(TEXTS).split("\n")))
                text = "\n".join(lines)
            else:
                text = text[:at]
            text = text or "x"
        yield text


class TooSlowError(Exception):
    """A mutant that takes longer than anyone waits."""


def _alarm(_number: int, _frame: object) -> None:
    raise TooSlowError


def survive(seed: int, count: int) -> None:
    before = signal.signal(signal.SIGVTALRM, _alarm)  # of computing: others may keep the machine busy
    try:
        for at, text in enumerate(mutants(seed, count)):
            signal.setitimer(signal.ITIMER_VIRTUAL, 20)
            try:
                look(text)
                after = format_text(Source("x", text))
                if after is not None:
                    assert format_text(Source("x", after)) == after
            except Exception as error:
                keep = Path("fuzz-failure.ft")
                keep.write_text(text, encoding="utf-8", errors="surrogatepass")
                pytest.fail(f"mutant {at} of seed {seed} (kept in {keep.absolute()}): {type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.slow
def test_a_few_mutants() -> None:
    survive(1, 300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_many_mutants(seed: int) -> None:
    """20,000 in all."""
    survive(seed, 2000)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_at_all(text: str) -> None:
    sink = Sink()
    file = parse(Source("x", text), sink)
    for one in sink:
        assert one.span is not None
        assert 0 <= one.span.start <= one.span.end <= len(text)
    assert file.source.text == text


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=30), st.lists(st.sampled_from([" ", "\n", "  ", "\n\n"]), min_size=30)
)
@pytest.mark.slow
def test_any_words_in_any_order(words: list[str], blanks: list[str]) -> None:
    text = "".join(word + blank for word, blank in zip(words, blanks, strict=False))
    look(text)
    after = format_text(Source("x", text))
    if after is not None:
        assert format_text(Source("x", after)) == after


@pytest.mark.parametrize("path", [*EXAMPLES, *CORPUS], ids=lambda p: p.stem)
def test_the_resolver_and_the_models_agree(path: Path) -> None:
    """What the resolver lets through, the pydantic models take: `check` says all that `compile` would."""
    session = Session(env={"HF_HOME": "/x"})
    recipe = check(path, Options(), session).recipe
    assert recipe is not None
    assert [problem for stage in recipe.stages for problem in problems(stage)] == []


@pytest.mark.parametrize("before", ["", "\n", "\n\n \n"])
def test_the_files_own_words_may_stand_below_blanks(before: str) -> None:
    """Formatting takes the blanks away, and must not make words of the file's out of words of nobody's."""
    text = f"{before}## all of it\n\nlet a = 1\n"
    assert parse(Source("x", text), Sink()).doc == "all of it"
    assert format_text(Source("x", text)) == "## all of it\n\nlet a = 1\n"


@pytest.mark.parametrize(("prefix", "factor"), [(p, f) for p, f in SCALES.items() if p in ("", "k", "M", "Ki", "Mi")])
def test_prefixes_multiply(prefix: str, factor: float) -> None:
    text = f'sft {{\n  model = hf("a/b")\n  data = hf("a/c")\n  limit = 3{prefix}\n}}\n'
    recipe = check(HERE, Options(), Session(Files({HERE: text}), env={})).recipe
    assert recipe is not None
    assert recipe.stages[0].settings.get("limit") == 3 * factor


DEEP = {
    "groups": "a = " + "(" * 5000 + "1" + ")" * 5000,
    "signs": "a = " + "-" * 5000 + "1",
    "blocks": "sft { " * 3000 + "}" * 3000,
    "open": "a = " + "[" * 4000,
    "lets": "let a0 = 1\n" + "".join(f"let a{n} = a{n - 1} + 1\n" for n in range(1, 3000)),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.slow
def test_deep_nesting_is_refused_not_crashed(name: str, tmp_path: Path) -> None:
    """In a process of its own, which a stack that overflows would end by a signal."""
    (tmp_path / "r.ft").write_text(DEEP[name], encoding="utf-8")
    done = ftc_process("check", "r.ft", cwd=tmp_path)
    if name == "lets":
        assert (done.returncode, done.stderr) == (0, ""), "long, not deep"
        return
    assert done.returncode == 1
    assert "error[FT" in done.stdout
    lines = done.stderr.splitlines()
    assert all(line.startswith("next: ftc check") for line in lines), "no fault of ours, no traceback"
