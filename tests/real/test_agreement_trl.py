"""TRL's own parser and our rules over the same configurations: what it refuses, we do.

Every example of every rule about TRL, and a generated set: each parameter of each trainer with values of other types, outside of
its range, and unknown ones. What is refused only when a trainer is made, with a model, is in refusals_trl.toml.
docs/agreement-trl.md is the table; `AGREEMENT=write` writes it anew.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftdsl.catalog.trainers import trainer_schema, trainers
from ftdsl.diagnostics import Sink
from ftdsl.diagnostics.codes import CODES
from ftdsl.lint.about import examples, sections
from ftdsl.lint.check import check, load
from ftdsl.lint.config import Config, Launch, Setting
from ftdsl.lint.rule import ENGINES
from ftdsl.record import replace
from ftdsl.run.environments import Environment
from tests.conftest import ROOT
from tests.lint.reading import TRL_BASE, TRL_VERSIONS, config_of

pytestmark = pytest.mark.real

PROGRAM = (Path(__file__).parent / "agreeing_trl.py").read_text(encoding="utf-8")
WITH: dict[str, dict[str, Any]] = {
    "grpo": {"reward_funcs": ["think_format_reward"]}, "rloo": {"reward_funcs": ["think_format_reward"], "num_generations": 2},
    "distillation": {"teacher_model_name_or_path": "org/big"},
}  # fmt: skip
"""What a run of a trainer cannot do without."""
SIZES = ("per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size")
OWN = [code for code, engines in ENGINES.items() if "trl" in engines] if load() else []


def values(kind: str, choices: list[Any]) -> Iterator[Any]:
    """Values that a parameter of a type cannot have, or just can."""
    yield None
    if choices:
        yield from ("nonsense", choices[-1])
    if kind.startswith("bool"):
        yield from ("maybe", "yes", 2)
    elif kind.startswith("int"):
        yield from ("eight", -1, 0, 2.5, "3")
    elif kind.startswith("float"):
        yield from ("x", -0.5, 2.5, "1e-4")
    elif kind.startswith("list"):
        yield from ("a", ["a", "b"], 3)
    elif kind.startswith("dict"):
        yield from ("text", {"a": 1})
    else:
        yield from ("text", 5, *([False] if kind[:1].isupper() else []))


MACHINE = ("env", "push_to_hub_token", "output_dir", "use_cpu", "deepspeed", "fsdp", "tf32", "ddp_backend")
"""Parameters about the machine, or the files beside a configuration."""


def generated() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What all trainers have is tried on one."""
    for verb in trainers("trl"):
        base = {**TRL_BASE, **WITH.get(verb, {})}
        for name, fact in trainer_schema("trl", verb).items():
            if name in MACHINE or (
                verb != "sft" and fact == trainer_schema("trl", "sft").get(name) and name not in SIZES
            ):
                continue
            for at, value in enumerate(values(str(fact.get("type", "")), list(fact.get("choices") or ()))):
                yield f"{verb} {name} {at}", verb, {**base, name: value}
        yield f"{verb} unknown 0", verb, {**base, "no_such_parameter": 1}


CASES = {name: (verb, params) for name, verb, params in generated()}
EXAMPLES: dict[str, Config] = {}
for code in OWN:
    for heading, mark in (("Example", "example"), ("Use instead", "instead")):
        for at, example in enumerate(examples(sections(load()[code])[heading])):
            EXAMPLES[f"{code} {mark} {at}"] = config_of(example)


def config(verb: str, params: dict[str, Any]) -> Config:
    """One process, as where the parser runs."""
    settings = {name: Setting(name, value, name) for name, value in params.items()}
    return Config(settings, None, "trl", trainer=verb, versions=TRL_VERSIONS, launch=Launch(1, 1))


def ours(made: Config) -> list[str]:
    """Codes of errors, in one process where nothing else is known."""
    sink = Sink()
    check(replace(made, launch=made.launch or Launch(1, 1)), sink)
    return [one.code for one in sink if one.severity.value == "error"]


@pytest.fixture(scope="module")
def theirs(forking_trl: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Case -> what TRL's parser says ("" when it takes it)."""
    folder = tmp_path_factory.mktemp("agreement")
    (folder / "agree.py").write_text(PROGRAM, encoding="utf-8")
    cases = [[name, verb, {**params, "use_cpu": True}] for name, (verb, params) in CASES.items()]
    for name, made in EXAMPLES.items():
        params = {key: setting.value for key, setting in made.settings.items()}
        cases.append([name, made.trainer, {**params, "use_cpu": True}])
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(forking_trl.python), "agree.py", "cases.json", "verdicts.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    return found


def test_what_its_parser_refuses_we_refuse(theirs: dict[str, str]) -> None:
    missed = {name: theirs[name] for name, case in CASES.items() if theirs[name] and not ours(config(*case))}
    missed |= {
        name: theirs[name]
        for name, made in EXAMPLES.items()
        if theirs[name] and not ours(made) and "instead" not in name
    }
    assert missed == {}


def test_what_to_use_instead_is_taken(theirs: dict[str, str]) -> None:
    alone = [
        name for name, made in EXAMPLES.items() if " instead " in name and (not made.launch or made.launch.world == 1)
    ]
    assert {name: theirs[name] for name in alone if theirs[name]} == {}


def test_every_refusal_of_a_trainer_has_a_rule_or_a_reason(trl: Environment) -> None:
    known = tomllib.loads((Path(__file__).parent / "refusals_trl.toml").read_text(encoding="utf-8"))
    site = next(trl.python.parent.parent.glob("lib/python*/site-packages/trl/trainer"))
    names = ["model_config.py", *(f"{verb}_{part}.py" for verb, fact in trainers("trl").items() if fact["kind"]
                                  for part in ("config", "trainer"))]  # fmt: skip
    texts = {text for name in names for text in refusals((site / name).read_text(encoding="utf-8"))}
    assert texts
    assert sorted(text for text in texts if not text.startswith(tuple(known))) == []
    assert [text for text in known if not any(one.startswith(text) for one in texts)] == []
    assert {why for why in known.values() if why.startswith("FT")} <= CODES.keys()


def refusals(source: str) -> Iterator[str]:
    """Texts of errors that are raised while an object is made, up to their first filled-in part."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef) or function.name not in ("__init__", "__post_init__"):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                value: ast.AST = node.exc.args[0]
                value = value.values[0] if isinstance(value, ast.JoinedStr) else value
                if isinstance(value, ast.Constant):
                    yield str(value.value)


def test_the_table_is_current(theirs: dict[str, str]) -> None:
    target = ROOT / "docs" / "agreement-trl.md"
    text = table(theirs)
    if os.environ.get("AGREEMENT") == "write":
        target.write_text(text, encoding="utf-8")
    assert target.read_text(encoding="utf-8") == text


def table(theirs: dict[str, str]) -> str:
    lines = [
        "# Agreement with TRL 1.16.0\n",
        "Made by tests/real/test_agreement_trl.py (`AGREEMENT=write`). Configurations go through the parser of TRL's own",
        "scripts, as `trl VERB --config FILE` reads a file, with the conversion of every field and every `__post_init__`, and",
        "through `ftc check`. The parser takes most values as they come: what it accepts here fails when a trainer is made, in",
        "the first step, or never. Every refusal of its trainers is in tests/real/refusals_trl.toml, with the rule that foresees",
        "it, or why none can. What all trainers have is tried on one.\n",
        "## Each parameter with values of other types, out of range, unknown\n",
        "| verb | configurations | both refuse | we refuse, it does not | it refuses, we do not | neither |",
        "|---|---|---|---|---|---|",
    ]
    total = [0] * 5
    for verb in trainers("trl"):
        names = [name for name in CASES if name.startswith(f"{verb} ")]
        row = _row([(bool(theirs[name]), bool(ours(config(*CASES[name])))) for name in names])
        total = [one + other for one, other in zip(total, row, strict=True)]
        lines.append(f"| {verb} | {' | '.join(map(str, row))} |")
    lines += [f"| **all** | {' | '.join(map(str, total))} |", "", "## Examples of the rules about TRL\n",
              "| rule | examples | refused by its parser | it refuses, we do not |", "|---|---|---|---|"]  # fmt: skip
    for code in sorted(OWN):
        names = [name for name in EXAMPLES if name.startswith(f"{code} example")]
        refused = [name for name in names if theirs[name]]
        missed = [name for name in refused if not ours(EXAMPLES[name])]
        lines.append(f"| {code} {CODES[code]} | {len(names)} | {len(refused)} | {len(missed)} |")
    return "\n".join(lines) + "\n"


def _row(pairs: list[tuple[bool, bool]]) -> list[int]:
    return [len(pairs), *(pairs.count(pair) for pair in ((True, True), (False, True), (True, False), (False, False)))]
