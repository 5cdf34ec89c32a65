"""What is offered at a cursor: each case is a text with a mark, and what must (not) be there."""

from __future__ import annotations

from pathlib import Path

import pytest
from lsprotocol.types import InlayHint, Position, Range

from ftdsl.lsp import complete, configuration, hints, hover, names, report, structure
from ftdsl.lsp.document import Document, SupersededError, check
from ftdsl.source import Span
from tests.conftest import ALPACA, EXAMPLES
from tests.lsp.client import MARK

RECIPE = """\
hardware { gpu = h100, count = 8 }

let width = 8
param epochs: int = 2

data support { source = file("rows.jsonl"), holdout { eval = 25%, seed = 7 } }

## Learns to answer.
sft base {
  model    = hf("Qwen/Qwen3-8B")
  data     = support
  duration = 1 epoch
  lora     { rank = width, alpha = 2 * rank }
  batch    { global = 64, micro = 4 }
}

dpo from base { data = hf("a/pairs"), duration = 1 epoch, lora { rank = width }, to = "out/{width}" }

profile small { base { lora { rank = width }, batch { micro = 1 } } }
"""


def document(text: str, folder: Path, name: str = "recipe.ft", encoding: str = "utf-16") -> tuple[Document, int]:
    """A checked document, and the offset of the mark in it (the end, without one)."""
    (folder / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (folder / "recipes").mkdir(exist_ok=True)
    before, _, after = text.partition(MARK)
    path = folder / name
    opened = Document(path.as_uri(), path, 1, before + after, encoding)
    opened.result = check(path, opened.text, 1, opened.parts, {})
    return opened, len(before)


def offered(text: str, folder: Path, name: str = "recipe.ft") -> dict[str, str]:
    """Labels, and the line that each makes of the marked one."""
    here, offset = document(text, folder, name)
    items = complete.complete(here, offset)[0] if name.endswith(".ft") else configuration.complete(here, offset)
    lines = {}
    for item in items:
        assert item.text_edit is not None
        place = item.text_edit.range
        start, end = here.lines.offset(place.start), here.lines.offset(place.end)
        assert start <= offset <= end
        lines[item.label] = (
            here.text[:start].rpartition("\n")[2] + item.text_edit.new_text + here.text[end:].partition("\n")[0]
        )
    return lines


def at(line: str) -> str:
    """The recipe with a line put into its first stage."""
    return RECIPE.replace("  lora     {", f"  {line}\n  lora     {{", 1)


COMPLETIONS = {
    "keys and blocks of a stage": (at("⌖"), {"optim", "max_len", "evaluate"}, {"rank", "beta", "sft"}),
    "a key that is being typed": (at("dur⌖"), {"duration"}, {"optim"}),
    "keys of a block": (at("optim { ⌖ }"), {"lr", "schedule", "name"}, {"max_len", "rank"}),
    "keys of a dotted block": (at("optim.⌖"), {"lr", "schedule"}, {"max_len"}),
    "keys of a block without its brace": (at("optim { lr = 1e-4, ⌖"), {"schedule", "warmup"}, {"max_len"}),
    "members": (at("optim { schedule = ⌖ }"), {"cosine", "linear"}, {"true", "adamw"}),
    "names of a catalogue": (at("optim { name = adamw_⌖ }"), {"adamw_torch"}, {"cosine"}),
    "templates": (at("template = qw⌖"), {"qwen3", "qwen3_nothink"}, {"true"}),
    "booleans": (at("packing = ⌖"), {"true", "false"}, {"hf"}),
    "stages and functions for data": (
        at("evaluate { data = ⌖ }"),
        {"support", "support.eval", "hf", "file"},
        {"base", "true"},
    ),
    "splits of a data stage": (at("evaluate { data = support.⌖ }"), {"train", "eval", "test"}, {"path", "hf"}),
    "models": (at("model = ⌖"), {"hf", "base", 'hf("Qwen/Qwen3-8B")'}, {"support", "true"}),
    "model names in a string": (at('model = hf("Qwen/Qwen3-⌖")'), {"Qwen/Qwen3-8B"}, {"hf", "rank"}),
    "arguments of a function": (at('model = hf("a/b", ⌖)'), {"revision", "trust_remote_code"}, {"rank"}),
    "values of an argument": (at('model = hf("a/b", trust_remote_code = ⌖)'), {"true", "false"}, {"revision"}),
    "units of a duration": (at("duration = 3 ⌖"), {"epochs", "steps"}, {"GB", "USD"}),
    "units of a share": (at("optim { warmup = 3⌖ }"), {"%", "steps"}, {"GB"}),
    "lets and params in a value": (at("lora { rank = ⌖ }"), {"width", "epochs", "auto"}, {"base"}),
    "names in a text": (at('to = "out/{⌖"'), {"out/{width}", "out/{base}", "out/{run}"}, {"optim"}),
    "files": (at('data = file("ro⌖")'), {"rows.jsonl"}, {"recipe"}),
    "stages after from": (RECIPE + "merge from ⌖", {"base", "dpo"}, {"support", "optim"}),
    "the file's words": (RECIPE + "⌖", {"sft", "let", "hardware", "profile", "seed"}, {"rank"}),
    "the stages in a profile": (RECIPE + "profile p { ⌖ }", {"base", "dpo", "hardware"}, {"let"}),
    "keys of a stage in a profile": (RECIPE + "profile p { base { lora { ⌖ } } }", {"rank", "alpha"}, {"optim"}),
    "types of a parameter": (RECIPE + "param n: ⌖", {"int", "text"}, {"sft"}),
    "parameters of the engine": (at("llamafactory { ⌖ }"), {"flash_attn"}, {"lora"}),
    "nothing in a comment": (at("# op⌖"), set(), {"optim"}),
    "nothing in a plain text": (at('to = "op⌖"'), set(), {"optim"}),
    "files to include": (RECIPE + 'include "⌖"', {"recipes/"}, {"rows.jsonl", "recipe.ft2"}),
    "stages to wait for": (at("after = ⌖"), {"support", "dpo"}, {"true"}),
    "a dotted key of a stage in a profile": (RECIPE + "profile p { base.optim.schedule = ⌖ }", {"cosine"}, {"lr"}),
    "metrics of a goal": (
        RECIPE + "search { goal = minimize(⌖) }",
        {"base.eval_loss", "dpo.last_loss"},
        {"support.size"},
    ),
    "metrics of a stage in a goal": (
        RECIPE + "eval e from base { data = support.eval, metrics = [rouge] }\nsearch { goal = maximize(e.⌖) }",
        {"rouge_l", "seconds"},
        {"loss", "eval_loss", "path"},
    ),
    "scores of a gate": (
        RECIPE + "eval e from base { data = support.eval, metrics = [rouge], gate { ⌖ } }",
        {"rouge_l"},
        {"loss", "at_least"},
    ),
    "bounds of a gate": (
        RECIPE + "eval e from base { metrics = [rouge], gate { rouge_l = ⌖ } }",
        {"at_least", "no_worse"},
        {"rouge"},
    ),
    "distributions": (at("optim { lr ~ ⌖ }"), {"log", "uniform", "choice"}, {"auto", "width"}),
    "profiles of a search": (RECIPE + "profile ~ choice(⌖)", {"small"}, {"first", "width"}),
    "the best trial": (RECIPE + "sft x from base { settings = ⌖ }", {"search.best", "base"}, {"hf"}),
    "adapted layers": (at("lora { targets = ⌖ }"), {"all"}, {"auto"}),
    "columns of the rows": (
        RECIPE.replace("holdout", 'columns { prompt = "⌖" }, holdout'),
        {"instruction", "output"},
        {"base"},
    ),
    "columns of a reward": (
        RECIPE + 'grpo { model = base, data = support, duration = 1 epoch, rewards = [exact("⌖")] }',
        {"answer", "instruction"},
        {"rows.jsonl"},
    ),
    "files of a reward": (RECIPE + 'grpo { rewards = [python("⌖")] }', {"rows.jsonl"}, {"answer"}),
    "the folder of a stage in a text": (RECIPE + 'shell s { run = "ls {base.⌖}" }', {"ls {base.path}"}, {"ls {base}"}),
    "names of target options": (RECIPE + "target = slurm(⌖)", {"partition", "account", "time"}, {"sbatch"}),
    "an unclosed string": (at('data = file("ro⌖'), {"rows.jsonl"}, set()),
}


@pytest.mark.parametrize("case", COMPLETIONS)
def test_completion(case: str, tmp_path: Path) -> None:
    text, wanted, unwanted = COMPLETIONS[case]
    labels = set(offered(text, tmp_path))
    assert wanted <= labels, wanted - labels
    assert not unwanted & labels


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_what_is_completed_replaces_what_was_typed(encoding: str, tmp_path: Path) -> None:
    here, offset = document(at('run_name = "😀é" # x\n  optim { schedule = cos⌖ }'), tmp_path, encoding=encoding)
    item = next(item for item in complete.complete(here, offset)[0] if item.label == "cosine")
    assert item.text_edit is not None
    assert here.lines.offset(item.text_edit.range.start) == offset - 3
    line = offered(at("model = hf⌖"), tmp_path)
    assert line["hf"].strip() == 'model = hf("")'
    assert offered(at("op⌖"), tmp_path)["optim"].strip() == "optim"


HOVERS = {
    "a key, its type, its parameter and its value": (RECIPE.replace("rank = width", "ra⌖nk = width", 1),
                                                     ["a whole number", "lora_rank", "value: `8`"]),
    "a key of the plan": (at("pre⌖cision = auto"), ["value: `bf16`", "plan:"]),
    "a block": (RECIPE.replace("lora     {", "lo⌖ra     {"), ["rank", "alpha"]),
    "a stage: its doc and its plan": (RECIPE.replace("sft base", "s⌖ft base"),
                                       ["Learns to answer.", "batch: 64 global", "time:", "GiB"]),
    "a stage where it is used": (RECIPE.replace("from base", "from ba⌖se"), ["sft base", "Learns to answer."]),
    "a let where it is used": (RECIPE.replace("rank = width", "rank = wi⌖dth", 1), ["let width = 8"]),
    "a key where it is used": (RECIPE.replace("2 * rank", "2 * ra⌖nk"), ["lora.rank = width"]),
    "a function": (RECIPE.replace('hf("Qwen', 'h⌖f("Qwen'), ["revision", "trust_remote_code"]),
    "a member": (at("optim { schedule = cos⌖ine }"), ["schedule"]),
    "a unit": (at("max_len = 2⌖Ki"), ["2,048"]),
    "a let that is called like a key": ("## How wide.\nlet ra⌖nk = 8\n" + RECIPE, ["let rank = 8", "How wide."]),
    "a stage that is called like a block": (RECIPE.replace("sft base", "sft op⌖tim").replace("from base", "from optim"),
                                            ["sft optim", "Learns to answer."]),
    "a secret": ('let tok⌖en = "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"\n' + RECIPE, ["let token", "***"]),
    "a key in a profile": (RECIPE.replace("small { base { lora { rank", "small { base { lora { ra⌖nk"), ["lora_rank"]),
}  # fmt: skip


@pytest.mark.parametrize("case", HOVERS)
def test_hover(case: str, tmp_path: Path) -> None:
    text, wanted = HOVERS[case]
    here, offset = document(text, tmp_path)
    shown = hover.hover(here, offset)
    assert shown is not None
    for part in wanted:
        assert part in shown.contents.value, shown.contents.value  # type: ignore[union-attr]


def spans(found: list[Span]) -> list[str]:
    return [
        f"{span.source.position(span.start)[0]}: {span.text}" for span in sorted(found, key=lambda span: span.start)
    ]


def test_definition_and_references(tmp_path: Path) -> None:
    here, offset = document(RECIPE.replace("rank = width", "rank = wi⌖dth", 1), tmp_path)
    declared = names.definition(here, offset)
    assert declared is not None and spans([declared]) == ["3: width"]
    assert spans(names.references(here, offset)) == ["3: width", "13: width", "17: width", "17: width", "19: width"]
    here, offset = document(RECIPE.replace("from base", "from ba⌖se"), tmp_path)
    assert spans(names.references(here, offset)) == ["9: base", "17: base", "19: base"]
    here, offset = document(RECIPE.replace("2 * rank", "2 * ra⌖nk"), tmp_path)
    declared = names.definition(here, offset)
    assert declared is not None and spans([declared]) == ["13: rank"]


def renamed(text: str, new: str, folder: Path, name: str = "recipe.ft") -> dict[str, str]:
    here, offset = document(text, folder, name)
    texts = {}
    for file, places in names.rename(here, offset, new).items():
        source = places[0][0].source.text
        for span, put in sorted(places, key=lambda place: place[0].start, reverse=True):
            source = source[: span.start] + put + source[span.end :]
        texts[Path(file).name] = source
    return texts


@pytest.mark.parametrize(
    ("word", "new", "expected"),
    [
        ("wi⌖dth = 8", "narrow", RECIPE.replace("width", "narrow")),
        ("sft ba⌖se", "first", RECIPE.replace("base", "first")),
        ("data sup⌖port", "rows", RECIPE.replace("data support", "data rows").replace("= support", "= rows")),
        ("dp⌖o from", "prefer", RECIPE.replace("dpo from", "dpo prefer from")),
    ],
)
def test_rename_changes_every_use_and_nothing_else(word: str, new: str, expected: str, tmp_path: Path) -> None:
    text = RECIPE.replace(word.replace(MARK, ""), word, 1)
    assert renamed(text, new, tmp_path) == {"recipe.ft": expected}


@pytest.mark.parametrize("new", ["epochs", "base", "1x", "a b", "let", "", "in", "é"])
def test_a_rename_that_would_change_the_meaning_is_refused(new: str, tmp_path: Path) -> None:
    with pytest.raises(names.RenameError):
        renamed(RECIPE.replace("let width", "let wi⌖dth"), new, tmp_path)


def test_a_rename_never_captures_a_key(tmp_path: Path) -> None:
    """`x` in the block of a key `x` would mean that key."""
    text = RECIPE.replace("alpha = 2 * rank", "alpha = 2 * width").replace("let width", "let wi⌖dth")
    with pytest.raises(names.RenameError, match="something else"):
        renamed(text.replace("rank = width, alpha", "rank = 4, alpha"), "rank", tmp_path)


def test_a_rename_reaches_included_files(tmp_path: Path) -> None:
    (tmp_path / "common.ft").write_text("let width = 8\n", encoding="utf-8")
    text = 'include "common.ft"\n' + RECIPE.replace("let width = 8\n", "").replace("rank = width", "rank = wi⌖dth", 1)
    found = renamed(text, "narrow", tmp_path)
    assert found["common.ft"] == "let narrow = 8\n"
    assert "width" not in found["recipe.ft"]


def test_hints(tmp_path: Path) -> None:
    here, _ = document(RECIPE, tmp_path)
    found: list[InlayHint] = hints.inlay_hints(here, Range(Position(0, 0), Position(100, 0)))
    shown = {hint.position.line: str(hint.label) for hint in found}
    assert shown[13] == "64 global = 4 micro x 2 accumulate x 8 data-parallel"
    assert "GiB" in shown[8]
    assert not hints.inlay_hints(here, Range(Position(2, 0), Position(3, 0)))
    here.change(2, RECIPE + "\n")
    assert not hints.inlay_hints(here, Range(Position(0, 0), Position(100, 0)))  # of an older text
    assert not hints.code_lenses(here, ())
    lenses = hints.code_lenses(here, ("ftdsl.check", "ftdsl.run"))
    assert [lens.command.title for lens in lenses if lens.command] == ["check", "run support", "run base", "run dpo"]


def test_outline_and_folds(tmp_path: Path) -> None:
    here, _ = document(RECIPE, tmp_path)
    outline = structure.symbols(here)
    assert [symbol.name for symbol in outline] == ["hardware", "width", "epochs", "support", "base", "dpo", "small"]
    assert [child.name for child in outline[4].children or ()] == ["model", "data", "duration", "lora", "batch"]
    assert [(fold.start_line, fold.end_line) for fold in structure.folds(here)] == [(8, 13)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_semantic_tokens_are_words_of_the_text_in_order(path: Path, tmp_path: Path) -> None:
    here, _ = document(path.read_text(encoding="utf-8"), tmp_path)
    data = structure.semantic_tokens(here)
    lines = here.text.split("\n")
    line = column = 0
    kinds = set()
    for at in range(0, len(data), 5):
        line, column = line + data[at], (0 if data[at] else column) + data[at + 1]
        word = lines[line].encode("utf-16-le")[2 * column : 2 * (column + data[at + 2])].decode("utf-16-le")
        assert word and "\n" not in word and word == word.strip()
        kinds.add(structure.TYPES[data[at + 3]])
    assert {"comment", "keyword", "property", "number", "operator"} <= kinds


YAML = """\
model_name_or_path: Qwen/Qwen3-8B
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
"""


def test_llamafactory_yaml(tmp_path: Path) -> None:
    lines = offered(YAML + "lora_a⌖", tmp_path, "a.yaml")
    assert lines["lora_alpha"] == "lora_alpha: "
    assert "lora_rank" not in lines
    assert set(offered(YAML.replace("type: lora", "type: ⌖"), tmp_path, "a.yaml")) >= {"lora", "full", "freeze"}
    assert "qwen3" in offered(YAML + "template: ⌖", tmp_path, "a.yaml")
    assert set(offered(YAML + "bf16: ⌖", tmp_path, "a.yaml")) == {"true", "false"}
    assert not offered("name: x\non: push\n⌖", tmp_path, "ci.yaml")
    here, offset = document(YAML.replace("lora_rank", "lora_⌖rank"), tmp_path, "a.yaml")
    shown = configuration.hover(here, offset)
    assert shown is not None
    assert "lora.rank" in shown.contents.value  # type: ignore[union-attr]
    here, _ = document(YAML.replace("lora_rank", "lora_rnak"), tmp_path, "a.yaml")
    assert here.result and any("lora_rnak" in d.message for d in here.result.diagnostics)
    here, _ = document("name: x\non: push\n", tmp_path, "ci.yaml")
    assert here.result and not here.result.diagnostics


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ci.yml", "job:\n  script: !reference [a, b]\n"),
        ("chart.yaml", "{{- if .Values.x }}\nkind: Pod\n{{- end }}\n"),
        ("many.yaml", "kind: A\n---\nkind: B\n"),
        ("package.json", '{"name": "x",\n  // a comment\n "version": "1"}'),
        ("empty.yaml", ""),
    ],
)
def test_files_of_other_programs_are_left_alone(name: str, text: str, tmp_path: Path) -> None:
    here, _ = document(text, tmp_path, name)
    assert here.result and not here.result.diagnostics


def test_a_configuration_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    here, _ = document(YAML + "lora_alpha: [8\n", tmp_path, "a.yaml")
    assert here.result and "FT050" in {diagnostic.code for diagnostic in here.result.diagnostics}


def test_fixes_are_edits_of_the_newest_text_only(tmp_path: Path) -> None:
    text = RECIPE.replace("rank = width, alpha", "rnak = width, alpha")
    here, _ = document(text, tmp_path)
    offset = text.index("rnak")
    (action,) = report.actions(here, here.lines.range(offset, offset), None)
    assert action.title == "write `rank`"
    assert not report.actions(here, here.lines.range(0, 1), None)
    here.change(2, text + "\n")
    assert not report.actions(here, here.lines.range(offset, offset), None)


def test_before_a_slow_check_ends_the_rest_keeps_its_diagnostics(tmp_path: Path) -> None:
    """What is known of declarations that have not changed moves with them; of the changed one its syntax is reported."""
    text = RECIPE.replace("dpo from base {", "dpo from base { lraning = 1,")
    here, _ = document(text, tmp_path)
    assert here.result is not None
    known = {d.code for d in here.result.diagnostics if d.span and d.span.text == "lraning"}
    assert known
    changed = "let more = 1\n" + text.replace("rank = width, alpha", "rank = = width, alpha")
    here.change(2, changed)
    found = [(changed[start:end], diagnostic.code) for start, end, diagnostic in here.quick()]
    assert {code for word, code in found if word == "lraning"} == known
    assert [code for _, code in found if code.startswith("FT03")]
    assert len(report.quick(here)) == len(found)


def test_a_check_of_an_old_text_ends_at_its_next_diagnostic(tmp_path: Path) -> None:
    here, _ = document(RECIPE.replace("rank = width, alpha", "rnak = width, alpha"), tmp_path)
    with pytest.raises(SupersededError):
        check(here.path, here.text, 1, here.parts, {}, lambda: True)
