"""Which Python a stage's engine runs in, where recipes have one engine or two and Pythons are named with or without them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.run.carry_out import environments_of
from ftdsl.run.environments import NoEngineError
from ftdsl.run.status import packages_by_environment
from ftdsl.session import Session
from tests.conftest import ALPACA, ftc

STAGE = (
    'sft {name} {{ model = hf("Qwen/Qwen3-0.6B"), template = qwen3, data = file("rows.jsonl"), lora {{ }}{engine} }}\n'
)
HEAD = "hardware { gpu = none, count = 1 }\n"
LF, TRL = STAGE.format(name="a", engine=""), STAGE.format(name="b", engine=", engine = trl")
VERSIONS = {"llamafactory": "0.9.5", "trl": "1.16.0"}


def environment(folder: Path, *packages: str) -> Path:
    """The Python of a virtual environment in which these packages are, by their metadata."""
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for package in packages:
        name, _, version = package.partition("==")
        info = site / f"{name}-{version or VERSIONS[name]}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version or VERSIONS[name]}\n", "utf-8"
        )
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n", encoding="utf-8")
    return folder / "bin" / "python"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Pythons by what is in their environments, outside of the folder that is the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("rows.jsonl").write_text(ALPACA, encoding="utf-8")
    pythons = {"lf": environment(tmp_path / "lf", "llamafactory", "trl==0.24.0"), "trl": environment(tmp_path / "trl", "trl"),
               "both": environment(tmp_path / "both", "llamafactory", "trl"), "none": environment(tmp_path / "none")}  # fmt: skip
    return {name: str(python) for name, python in pythons.items()}


def chosen(recipe: str, flag: str = "", variable: str = "", home: str = "/nowhere") -> dict[str, str]:
    """Environment -> the folder of the Python that `ftc run` takes; and `ftc plan` counts the packages of the same."""
    Path("r.ft").write_text(HEAD + recipe, encoding="utf-8")
    env = {"HOME": home, **({"FTC_ENGINE_PYTHON": variable} if variable else {})}
    session = Session(env=env, engine_python=flag)
    compiled = compile_recipe(Path("r.ft"), Options(), session)
    assert compiled is not None, session.sink.ordered()
    environments = environments_of(compiled.jobs, compiled, env, python=flag)
    packages = packages_by_environment(compiled.plan, compiled.jobs, [], session)
    for job in compiled.jobs:
        counted, here = packages[job.environment], environments[job.environment].packages
        assert [counted.get(name) for name in VERSIONS] == [here.get(name) for name in VERSIONS]
    return {name: found.python.parent.parent.name for name, found in environments.items() if name}


@pytest.mark.parametrize("way", ["flag", "variable"])
@pytest.mark.parametrize(
    ("recipe", "named", "expected"),
    [
        (LF, "lf", {"llamafactory": "lf"}),
        (TRL, "trl", {"trl": "trl"}),
        (TRL, "both", {"trl": "both"}),
        ("engine = trl\n" + TRL, "trl", {"trl": "trl"}),
        (LF + TRL, "both", {"llamafactory": "both", "trl": "both"}),
        (LF + TRL, "llamafactory={lf},trl={trl}", {"llamafactory": "lf", "trl": "trl"}),
    ],
)
def test_a_python_reaches_the_engines_that_it_has(
    recipe: str, named: str, expected: dict[str, str], way: str, places: dict[str, str]
) -> None:
    text = places.get(named) or named.format(**places)
    assert chosen(recipe, **{way: text}) == expected


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_a_second_engine_is_looked_for_where_it_is(way: str, places: dict[str, str], tmp_path: Path) -> None:
    """A Python without the second engine is named for the first."""
    environment(tmp_path / "here" / "mine", "trl")
    python = f'engine = trl(python = "{places["trl"]}")'
    assert chosen(LF + TRL.replace("engine = trl", python), **{way: places["lf"]}) == {
        "llamafactory": "lf",
        "trl": "trl",
    }


def test_a_python_that_a_stage_names_is_taken(places: dict[str, str]) -> None:
    python = f'engine = trl(python = "{places["trl"]}")'
    assert chosen(TRL.replace("engine = trl", python)) == {"trl": "trl"}


@pytest.mark.parametrize(
    ("recipe", "named", "engine"),
    [(TRL, "lf", "trl"), (LF, "trl", "llamafactory"), (LF + TRL, "none", "llamafactory"), (LF + TRL, "lf", "trl"),
     (LF + TRL, "llamafactory={lf},trl={none}", "trl")],
)  # fmt: skip
def test_an_engine_that_is_nowhere_is_named(recipe: str, named: str, engine: str, places: dict[str, str]) -> None:
    with pytest.raises(NoEngineError, match=engine):
        chosen(recipe, flag=places.get(named) or named.format(**places))


def test_a_plan_counts_the_steps_that_are_left(places: dict[str, str]) -> None:
    """Of a training that was broken off, with checkpoints of the same settings."""
    Path("r.ft").write_text(HEAD + LF.replace("lora { }", "lora { }, duration = 100 steps"), encoding="utf-8")
    arguments = ("r.ft", "--json", "--engine-python", places["lf"])
    failed = ftc("run", *arguments, cwd=Path.cwd())
    assert failed.returncode == 1, "there is no torch in it"
    (stage,) = json.loads(ftc("plan", *arguments, cwd=Path.cwd()).stdout)["stages"]
    assert stage["state"] == "unfinished" and stage["forecast"]["resumed_step"] is None
    whole = stage["forecast"]["seconds"]
    (output,) = (path / "result" for path in Path("runs/r").glob("2*/10-a"))
    for step, name in ((20, "trainer_state.json"), (60, "trainer_state.json"), (80, "other.json")):
        (output / f"checkpoint-{step}").mkdir(parents=True)
        (output / f"checkpoint-{step}" / name).write_text("{}", encoding="utf-8")
    (stage,) = json.loads(ftc("plan", *arguments, cwd=Path.cwd()).stdout)["stages"]
    assert stage["forecast"]["resumed_step"] == 60 and stage["forecast"]["seconds"] == pytest.approx(
        0.4 * whole, rel=0.01
    )
    shown = ftc("plan", "r.ft", "--engine-python", places["lf"], cwd=Path.cwd()).stdout
    assert "40 of 100 steps: " in shown
    other = ftc("plan", *arguments, "--set", "a.lora.rank=4", cwd=Path.cwd()).stdout
    assert json.loads(other)["stages"][0]["forecast"]["resumed_step"] is None, "other settings begin anew"


def test_packages_are_not_advised_into_a_system_python(places: dict[str, str], tmp_path: Path) -> None:
    """Nor into one that is not there."""
    (tmp_path / "sys" / "bin").mkdir(parents=True)
    bare = tmp_path / "sys" / "bin" / "python"
    bare.write_text(f'#!/bin/sh\nexec "{places["none"]}" "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    for python, said in ((str(bare), r"has no llamafactory; type: ftc engine install llamafactory \[--cpu\]"),
                         (places["none"], "has no llamafactory; type: ftc engine install llamafactory --python"),
                         (str(tmp_path / "nope"), "is not there$")):  # fmt: skip
        with pytest.raises(NoEngineError, match=said):
            chosen(LF, flag=python)
