"""Whatever a file holds: what is imported can be read, and says nothing but what the file says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftdsl import catalog
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.diagnostics import Sink
from ftdsl.importers import imports
from ftdsl.importers.checking import check
from ftdsl.importers.files import find
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.session import Session
from ftdsl.source import Source
from tests.conftest import ftc
from tests.hostile import HARMLESS, STRUCTURE, VALUES

BASE: dict[str, Any] = {
    "stage": "sft", "do_train": True, "model_name_or_path": "Qwen/Qwen3-0.6B", "dataset": "rows", "template": "qwen3",
    "output_dir": "saves/x", "bf16": True, "report_to": "none",
}  # fmt: skip
SCHEMA = list(catalog.engine_schema("llamafactory"))
NAMES = ("flash_attn", "report_to", "optim", "lr_scheduler_type", "rope_scaling", "tool_format", "template", "mix_strategy",
         "metric_for_best_model", "save_strategy", "infer_backend", "quantization_method")  # fmt: skip
"""Parameters whose values become names in a recipe."""
MAY = {"hardware", "launch", "env", "sft", "eval", "parallel", "optim", "batch", "precision", "memory", "quantize"}
FEW = (*STRUCTURE, *VALUES[:: len(VALUES) // 10])
"""Those of every run: all that could break out, and a sample of the others; all of them are `slow`."""


def every(values: tuple[str, ...]) -> list[Any]:
    """The few, and the others marked as slow."""
    return [pytest.param(one, id=ascii(one)[:40], marks=[] if one in FEW else pytest.mark.slow) for one in values]


TEXTS = tuple(one for one in VALUES if not any(0xD800 <= ord(char) < 0xE000 for char in one))


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def written(text: str, name: str = "train.yaml") -> str | None:
    """The recipe of a file, not compiled again; None where the file cannot be read."""
    session = Session()
    found = find([(Path(name), text)], session)
    if session.sink.failed or not found.starts:
        return None
    stages = imports._stages(found.starts, Path("recipe.ft"), session.files, {})
    return imports._written(stages, "recipe", ["from a file"], ())


def holds_nothing_new(text: str, may: Set[str] = MAY) -> None:
    """It can be read, and has no stage and no key that configurations of one training run do not lead to.

    may: blocks that it may have.
    """
    sink = Sink()
    file = parse(Source("recipe.ft", text), sink)
    assert not sink.failed, [one.message for one in sink]
    text.encode()
    for item in file.items:
        assert isinstance(item, tree.Bind | tree.Block | tree.Param)
        if isinstance(item, tree.Block):
            assert item.kind.text in may
    assert not any(one.text.startswith("##") or "ftc: allow" in one.text for one in file.comments)
    words = vocabulary()
    known = {
        "sft",
        "eval",
        *words.block_names(),
        *(key for name in words.block_names() for key in words.block(name).keys),
    }
    assert set(keys(file.items)) <= known | set(SCHEMA)


def keys(items: tuple[tree.Item, ...]) -> Iterator[str]:
    for item in items:
        if isinstance(item, tree.Bind):
            yield item.key[0].text
        elif isinstance(item, tree.Block):
            yield item.kind.text
            if item.kind.text == "env":  # any name of a variable; a script may set what it likes
                assert all(
                    isinstance(one, tree.Bind) and isinstance(one.value, tree.Text | tree.Call) for one in item.body
                )
            else:
                yield from keys(item.body)


def as_yaml(parameters: dict[str, Any]) -> str:
    return str(yaml.safe_dump(parameters, sort_keys=False, allow_unicode=False))


@pytest.mark.parametrize("value", every(VALUES))
@pytest.mark.slow
def test_a_value_in_every_key_at_once(value: str) -> None:
    """All parameters of the engine, as a text, a list and a map; YAML and JSON."""
    for at, shape in enumerate((value, [value], {value: value})):
        some = {name: shape for name in SCHEMA if name not in ("stage", "do_train", "finetuning_type", "export_dir")}
        text = json.dumps({**BASE, **some}) if at else as_yaml({**BASE, **some})
        if (recipe := written(text, "train.json" if at else "train.yaml")) is not None:
            holds_nothing_new(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMA)
def test_what_breaks_out_of_texts_in_each_key(name: str) -> None:
    for value in STRUCTURE:
        recipe = written(as_yaml({**BASE, name: value}))
        if name == "stage":  # a stage that does not exist is refused
            assert recipe is None
            continue
        assert recipe is not None
        holds_nothing_new(recipe, MAY | {"merge"} if name == "export_dir" else MAY)


@pytest.mark.parametrize("values", [FEW, pytest.param(VALUES, marks=pytest.mark.slow)], ids=["few", "all"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_no_value_becomes_code_where_names_stand(name: str, values: tuple[str, ...]) -> None:
    for value in (*values, *HARMLESS):
        if (recipe := written(as_yaml({**BASE, name: value}))) is not None:
            holds_nothing_new(recipe)


@pytest.mark.parametrize("value", HARMLESS)
@pytest.mark.parametrize("name", ["report_to", "run_name", "optim", "output_dir", "lr_scheduler_type"])
@pytest.mark.slow
def test_a_harmless_value_gives_a_recipe_that_parses(name: str, value: str, here: Path) -> None:
    (here / "train.yaml").write_text(as_yaml({**BASE, name: value}), encoding="utf-8")
    done = ftc("import", "train.yaml", "-o", "recipe.ft", cwd=here)
    assert done.returncode == 0, done.stderr
    assert ftc("fmt", "--check", "recipe.ft", cwd=here).returncode == 0
    assert ftc("check", "recipe.ft", cwd=here).returncode == 0


@pytest.mark.parametrize("value", every(VALUES))
@pytest.mark.slow
def test_deepspeed_accelerate_and_lists_of_data(value: str, here: Path) -> None:
    for shape in (value, [value], {value: value}):
        sections = {name.partition(".")[0]: shape for name in catalog.passthrough_schema("deepspeed")}
        sections["zero_optimization"] = {"stage": 3, value: shape}
        (here / "ds.json").write_text(json.dumps(sections), encoding="utf-8")
        fsdp = as_yaml({"distributed_type": "FSDP", "fsdp_config": {value: shape}})
        for text in (as_yaml({**BASE, "deepspeed": "ds.json"}), fsdp):
            if (recipe := written(text)) is not None:
                holds_nothing_new(recipe)
    entry = {"file_name": value, "columns": {value: value}, "split": value, "subset": value, "tags": {value: value}}
    known = {"rows": entry, value: {"hf_hub_url": value}}
    (here / "data/dataset_info.json").write_text(json.dumps(known), encoding="utf-8")
    if (recipe := written(as_yaml({**BASE, "dataset": ["rows", value]}))) is not None:
        holds_nothing_new(recipe)


TRAIN = "train.py --stage sft --model_name_or_path a/b"
SCRIPTS = (
    f"python src/{TRAIN} {' '.join(f'--{name} @' for name in NAMES)}",
    f"export @=@ A=@\nenv @=1 B=@ python src/{TRAIN} @",
    f"NNODES=@ MASTER_PORT=@ CUDA_VISIBLE_DEVICES=@ MAX_RESTARTS=@ MIN_NNODES=@ MAX_NNODES=@ torchrun src/{TRAIN}",
    f"torchrun --nproc_per_node=@ --nnodes @ --master_addr @ src/{TRAIN} --lr @ --@ @",
    f"accelerate launch --num_processes @ --zero_stage @ --use_deepspeed --mixed_precision @ src/{TRAIN}",
)


@pytest.mark.parametrize("value", every(TEXTS))
@pytest.mark.slow
def test_words_of_scripts(value: str) -> None:
    """As a flag's value, a name and value of the environment, what launchers are told, a word that stands anywhere."""
    for word in (shlex.quote(value), value, f'"{value}"'):
        for template in SCRIPTS:
            script = template.replace("@", word)
            Path("run.sh").write_text(script, encoding="utf-8")
            check(Path("run.sh"), Session())
            if (recipe := written(script, "run.sh")) is not None:
                holds_nothing_new(recipe)


@pytest.mark.parametrize("stem", ["é", "a b", "1", "sft } shell x {", "cosine", "wandb", "lora", "base", "x" * 200])
@pytest.mark.slow
def test_names_of_files_become_names_of_stages_or_none(stem: str) -> None:
    config = {**BASE, "report_to": "wandb", "lr_scheduler_type": "cosine"}
    session = Session()
    named = [(Path(f"{stem}.yaml"), config), (Path("other.yaml"), {**config, "output_dir": "saves/other"})]
    found = find([(path, as_yaml(one)) for path, one in named], session)
    made = imports.import_all(found.starts, stem, Path("recipe.ft"), [f"from {stem}"], session)
    assert [one.message for one in made.diagnostics if one.severity.value == "error"] == []


def test_what_is_not_said_is_noted(here: Path) -> None:
    (here / "train.yaml").write_text(as_yaml({**BASE, "report_to": ["wandb", "te)nsorboard"]}), encoding="utf-8")
    done = ftc("import", "train.yaml", "--json", cwd=here)
    data = json.loads(done.stdout)
    assert "to = wandb" in data["recipe"]
    assert [note["word"] for note in data["notes"] if "te)nsorboard" in note["text"]] == ["report_to"]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!binary aGk=",
        "a: !!set {x}",
        "a: 2024-01-01",
        'a: "\\ud800"',
        "a: .nan",
        "a: !!timestamp x",
        "a: 0x" + "f" * 5000,
    ],
)
def test_json_of_an_import_is_json(text: str, here: Path) -> None:
    (here / "train.yaml").write_text(as_yaml(BASE) + text.replace("a:", "run_name:", 1) + "\n", encoding="utf-8")
    done = ftc("import", "train.yaml", "--json", "--verify", cwd=here)
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    if done.stdout:
        json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
