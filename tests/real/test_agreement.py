"""The engine's own validators and our rules over the same configurations: what they catch, we catch.

Every example of every rule, what each says to use instead, and the wrong configurations of tests/lint/wrong go through
LLaMA-Factory's `get_train_args` or `get_infer_args`, in one process (and one more, as a rank, for DeepSpeed).
docs/agreement.md is the table; `AGREEMENT=write` writes it anew.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftdsl.diagnostics.codes import CODES
from ftdsl.lint.about import Example, examples, sections
from ftdsl.lint.check import load
from ftdsl.run.environments import Environment
from tests.conftest import ROOT
from tests.lint.reading import config_of, lint
from tests.lint.test_wrong import CONFIGS

pytestmark = pytest.mark.real

PROGRAM = """
import json, os, sys
import llamafactory.hparams.parser as parser
parser.check_version = lambda *a, **k: None           # packages that are not here are another matter (FT903)
parser.is_torch_bf16_gpu_available = lambda: True     # and so are cards
from llamafactory.hparams import get_infer_args, get_train_args
verdicts = {}
for name, kind, config in json.load(open(sys.argv[1], encoding="utf-8")):
    try:
        (get_train_args if kind == "train" else get_infer_args)(config)
        verdicts[name] = ""
    except BaseException as error:
        verdicts[name] = f"{type(error).__name__}: {error}".splitlines()[0]
json.dump(verdicts, open(sys.argv[2], "w", encoding="utf-8"))
"""

CASES: dict[str, Example] = {}
for code, rule in load().items():
    for heading, mark in (("Example", "example"), ("Use instead", "instead")):
        for at, example in enumerate(examples(sections(rule)[heading])):
            CASES[f"{code} {mark} {at}"] = example
CASES |= {f"wrong {at}": Example({"train.yaml": text}) for at, text in enumerate(CONFIGS)}


def plain(name: str, example: Example, folder: Path) -> tuple[str, str, dict[str, Any]]:
    """A configuration as the engine's functions take it, on this CPU."""
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
    return name, "train" if config.kind == "train" else "infer", values


def verdicts(
    cases: list[tuple[str, str, dict[str, Any]]], engine: Environment, cwd: Path, *, rank: bool
) -> dict[str, str]:
    (cwd / "agree.py").write_text(PROGRAM, encoding="utf-8")
    (cwd / "tokens.yaml").write_text('"<a>": "the first letter"\n', encoding="utf-8")
    (cwd / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{engine.python.parent}:{os.environ['PATH']}"}
    if rank:
        env |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}
    command = [str(engine.python), "agree.py", "cases.json", "verdicts.json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads((cwd / "verdicts.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def theirs(engine: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Case -> what the engine said ("" when it took it)."""
    folder = tmp_path_factory.mktemp("agreement")
    made = [plain(name, example, folder) for name, example in CASES.items()]
    ranked = [case for case in made if "deepspeed" in case[2] or "gpus" in CASES[case[0]].given]
    cases = [case for case in made if case not in ranked]
    return verdicts(cases, engine, folder, rank=False) | verdicts(ranked, engine, folder, rank=True)


def ours(example: Example) -> list[str]:
    return [one.code for one in lint(example) if one.severity.value == "error"]


def test_what_they_catch_we_catch(theirs: dict[str, str]) -> None:
    missed = {name: said for name, said in theirs.items() if said and not ours(CASES[name])}
    assert missed == {}


NOT_OURS = (
    "Some specified arguments are not used", "Please use `FORCE_TORCHRUN=1`", "mcore_adapter",
    "`save_dir` already exists", "Please use `pip install", "mcore_adapter is not installed",
    "Please launch distributed training", "This device does not support", "YAML config must be a dictionary",
    "Output directory already exists", "`reward_model_type` cannot be oft", "Invalid fine-tuning method",
)  # fmt: skip
"""Refusals that depend on the machine or on files, that no configuration reaches, or that have a rule the engine's
functions cannot be brought to here (FT803: a folder that is in use)."""


def test_every_refusal_of_its_arguments_is_provoked(theirs: dict[str, str], engine: Environment) -> None:
    """Each `raise` and `assert` in llamafactory/hparams is reached by an example of ours, or stands in NOT_OURS."""
    site = next(engine.python.parent.parent.glob("lib/python*/site-packages"))
    said = "\n".join(theirs.values())
    left = []
    for path in sorted((site / "llamafactory" / "hparams").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = _said(node)
            if text and text not in said and not text.startswith(NOT_OURS):
                left.append(f"{path.name}: {text}")
    assert "\n".join(left) == ""


def _said(node: ast.AST) -> str:
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


def test_the_table_is_current(theirs: dict[str, str]) -> None:
    target = ROOT / "docs" / "agreement.md"
    text = table(theirs)
    if os.environ.get("AGREEMENT") == "write":
        target.write_text(text, encoding="utf-8")
    assert target.read_text(encoding="utf-8") == text


def table(theirs: dict[str, str]) -> str:
    """A row a rule: how many of its examples the engine refuses when it reads the file, and how many we do."""
    lines = [
        "# Agreement with LLaMA-Factory 0.9.5\n",
        "Made by tests/real/test_agreement.py (`AGREEMENT=write`): every example goes through the engine's own",
        "`get_train_args` or `get_infer_args` and through `ftc check`. What the engine accepts here it refuses later, with the",
        "model loaded, or never: docs/rules.md says which, with the place in its sources.\n",
        "| rule | examples | agree | we catch, they do not | they catch, we do not |",
        "|---|---|---|---|---|",
    ]
    total = [0, 0, 0, 0]
    for code in load():
        names = [name for name in theirs if name.startswith(f"{code} ")]
        bad = [name for name in names if " example " in name]
        both = sum(bool(theirs[name]) for name in bad)
        missed = sum(bool(theirs[name]) and not ours(CASES[name]) for name in names)
        row = (len(bad), both, len(bad) - both, missed)
        total = [one + other for one, other in zip(total, row, strict=True)]
        lines.append(f"| {code} {CODES[code]} | {' | '.join(map(str, row))} |")
    wrong = [name for name in theirs if name.startswith("wrong ")]
    both = sum(bool(theirs[name]) for name in wrong)
    missed = sum(bool(theirs[name]) and not ours(CASES[name]) for name in wrong)
    lines.append(
        f"| the wrong configurations of tests/lint/wrong | {len(wrong)} | {both} | {len(wrong) - both} | {missed} |"
    )
    lines.append(f"| **all rules** | {' | '.join(map(str, total))} |")
    return "\n".join(lines) + "\n"
