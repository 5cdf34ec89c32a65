"""The engine's own validators and our rules over the same configurations: what they catch, we catch.

Every example of every rule, what each says to use instead, and the wrong configurations of tests/lint/wrong go through
LLaMA-Factory's `get_train_args` or `get_infer_args`, and then through what it does before it loads weights (agreeing.py), in one
process (and one more, as a rank, for DeepSpeed). What no configuration reaches without weights is in refusals.toml.
docs/agreement.md is the table; `AGREEMENT=write` writes it anew.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ftdsl.diagnostics.codes import CODES
from ftdsl.lint.about import Example, examples, sections
from ftdsl.lint.check import load
from ftdsl.lint.families.quantization import PTQ
from ftdsl.run.environments import Environment
from tests.conftest import ROOT
from tests.lint.reading import config_of, lint
from tests.lint.test_wrong import CONFIGS

pytestmark = pytest.mark.real

PROGRAM = (Path(__file__).parent / "agreeing.py").read_text(encoding="utf-8")

CASES: dict[str, Example] = {}
for code, rule in sorted(load().items()):
    for heading, mark in (("Example", "example"), ("Use instead", "instead")):
        for at, example in enumerate(examples(sections(rule)[heading])):
            if "trainer" not in example.given:  # those of TRL: test_agreement_trl.py
                CASES[f"{code} {mark} {at}"] = example
CASES |= {f"wrong {at}": Example({"train.yaml": text}) for at, text in enumerate(CONFIGS)}


Case = tuple[str, str, dict[str, Any], dict[str, Any]]
Verdict = list[str]


def plain(name: str, example: Example, folder: Path) -> Case:
    """A configuration as the engine's functions take it, on this CPU, and what it needs to go on from there."""
    config = config_of(example)
    values = {key: one.value for key, one in config.settings.items() if one.value is not None}
    if config.kind == "train":
        values["use_cpu"] = True
        values.pop("tf32", None)
    if "deepspeed" in values:
        path = folder / f"{name.replace(' ', '-')}.json"
        data = (
            config.deepspeed.data
            if config.deepspeed
            else {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 0}}
        )
        path.write_text(json.dumps(data), encoding="utf-8")
        values["deepspeed"] = str(path)
    model = str(config.value("model_name_or_path"))
    beside = {"model_type": config.architecture or "qwen3", "quantised": bool(PTQ.search(model.lower()))}
    if "dataset_info.json" in example.files:
        values["dataset_dir"] = str(_rows(folder / name.replace(" ", "-"), example.files["dataset_info.json"]))
    return name, "train" if config.kind == "train" else "infer", values, beside


def _rows(folder: Path, info: str) -> Path:
    """A folder with a dataset_info.json and the files it names."""
    folder.mkdir()
    (folder / "dataset_info.json").write_text(info, encoding="utf-8")
    for entry in json.loads(info).values():
        for file in [entry["file_name"]] if "." in entry.get("file_name", "") else []:
            (folder / file).write_text("[]", encoding="utf-8")
    return folder


def verdicts(cases: list[Case], engine: Environment, cwd: Path, *, rank: bool) -> dict[str, Verdict]:
    (cwd / "agree.py").write_text(PROGRAM, encoding="utf-8")
    (cwd / "tokens.yaml").write_text('"<a>": "the first letter"\n', encoding="utf-8")
    (cwd / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{engine.python.parent}:{os.environ['PATH']}"}
    if rank:
        env |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}
    command = [str(engine.python), "agree.py", "cases.json", "verdicts.json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Verdict] = json.loads((cwd / "verdicts.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def theirs(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Case -> what the engine said when it read its arguments, and when it set up ("" when it took it)."""
    folder = tmp_path_factory.mktemp("agreement")
    made = [plain(name, example, folder) for name, example in CASES.items()]
    ranked = [case for case in made if "deepspeed" in case[2] or "gpus" in CASES[case[0]].given]
    cases = [case for case in made if case not in ranked]
    return verdicts(cases, forking, folder, rank=False) | verdicts(ranked, forking, folder, rank=True)


def ours(example: Example) -> list[str]:
    return [one.code for one in lint(example) if one.severity.value == "error"]


def test_what_they_catch_we_catch(theirs: dict[str, Verdict]) -> None:
    missed = {name: message for name, message in theirs.items() if any(message) and not ours(CASES[name])}
    assert missed == {}


NOT_OURS = (
    "Some specified arguments are not used", "Please use `FORCE_TORCHRUN=1`", "mcore_adapter",
    "`save_dir` already exists", "Please use `pip install", "mcore_adapter is not installed",
    "Please launch distributed training", "This device does not support", "YAML config must be a dictionary",
    "Output directory already exists", "`reward_model_type` cannot be oft", "Invalid fine-tuning method",
)  # fmt: skip
"""Refusals that depend on the machine or on files, that no configuration reaches, or that have a rule the engine's
functions cannot be brought to here (FT803: a folder that is in use)."""


def test_every_refusal_of_its_arguments_is_provoked(theirs: dict[str, Verdict], engine: Environment) -> None:
    """Each `raise` and `assert` in llamafactory/hparams is reached by an example of ours, or stands in NOT_OURS."""
    assert [one for one in _left("hparams", theirs, engine) if not one.partition(": ")[2].startswith(NOT_OURS)] == []


@pytest.mark.parametrize("part", ["model", "data", "train"])
def test_every_later_refusal_has_a_rule_or_a_reason(part: str, theirs: dict[str, Verdict], engine: Environment) -> None:
    """Those that need weights, rows or a machine stand in refusals.toml with the rule that foresees them, or why none does."""
    known = tomllib.loads((Path(__file__).parent / "refusals.toml").read_text(encoding="utf-8"))[part]
    left = [one.partition(": ")[2] for one in _left(part, theirs, engine)]
    assert [text for text in left if not text.startswith(tuple(known))] == []
    assert [text for text in known if not any(one.startswith(text) for one in left)] == []
    assert {why for why in known.values() if why.startswith("FT")} <= CODES.keys()


def _left(part: str, theirs: dict[str, Verdict], engine: Environment) -> list[str]:
    """`file: text` of every refusal in a part of the engine that no example provokes."""
    site = next(engine.python.parent.parent.glob("lib/python*/site-packages"))
    provoked = "\n".join("\n".join(message) for message in theirs.values())
    return [
        f"{path.name}: {text}"
        for path in sorted((site / "llamafactory" / part).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (text := _text_of(node)) and text not in provoked
    ]


def _text_of(node: ast.AST) -> str:
    """What a refusal says, up to its first filled-in part."""
    if isinstance(node, ast.Assert):
        value: ast.AST | None = node.msg
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
        value = node.exc.args[0]
    else:
        return ""
    if isinstance(value, ast.JoinedStr):
        value = value.values[0]
    return str(value.value) if isinstance(value, ast.Constant) else ""


def test_the_table_is_current(theirs: dict[str, Verdict]) -> None:
    target = ROOT / "docs" / "agreement.md"
    text = table(theirs)
    if os.environ.get("AGREEMENT") == "write":
        target.write_text(text, encoding="utf-8")
    assert target.read_text(encoding="utf-8") == text


def table(theirs: dict[str, Verdict]) -> str:
    """A row a rule: how many of its examples the engine refuses, and when, and how many we do."""
    lines = [
        "# Agreement with LLaMA-Factory 0.9.5\n",
        "Made by tests/real/test_agreement.py (`AGREEMENT=write`): every example goes through the engine's own",
        "`get_train_args` or `get_infer_args`, then through what it does before it loads weights (template, data sets,",
        "attention, quantisation), and through `ftc check`. What it accepts here it refuses later, with the model loaded, or",
        "never: docs/rules.md says which, with the place in its sources. Every other refusal of its model, data and training",
        "is in tests/real/refusals.toml, with the rule that foresees it, or why none can.\n",
        "| rule | examples | both, by its arguments | both, by its set-up | we catch, they do not | they catch, we do not |",
        "|---|---|---|---|---|---|",
    ]
    total = [0] * 5
    for code in sorted(load()):
        row = _row([name for name in theirs if name.startswith(f"{code} ")], theirs)
        total = [one + other for one, other in zip(total, row, strict=True)]
        lines.append(f"| {code} {CODES[code]} | {' | '.join(map(str, row))} |")
    wrong = _row([name for name in theirs if name.startswith("wrong ")], theirs)
    lines.append(f"| the wrong configurations of tests/lint/wrong | {' | '.join(map(str, wrong))} |")
    lines.append(f"| **all rules** | {' | '.join(map(str, total))} |")
    return "\n".join(lines) + "\n"


def _row(names: list[str], theirs: dict[str, Verdict]) -> list[int]:
    bad = [name for name in names if " instead " not in name]
    early, late = (sum(bool(theirs[name][at]) for name in bad) for at in (0, 1))
    missed = sum(any(theirs[name]) and not ours(CASES[name]) for name in names)
    return [len(bad), early, late, len(bad) - early - late, missed]
