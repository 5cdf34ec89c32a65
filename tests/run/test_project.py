"""Runs and builds lie in the project, whatever folder `ftc` is called in, and no two recipes or variants share a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.run.project import build_of, home_of, root_of
from tests.conftest import ftc

SHELL = 'shell a { run = "echo TEXT > a.txt", outputs = ["a.txt"] }\n'


def run(cwd: Path, file: str, *arguments: str) -> dict[str, Any]:
    done = ftc("run", file, "--json", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document | {"statuses": {stage["stage"]: stage["status"] for stage in document["stages"]}}


@pytest.mark.parametrize("mark", ["ftc.toml", ".git", ""])
def test_the_root_is_found_from_the_recipe(mark: str, tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "t.ft").write_text(SHELL, encoding="utf-8")
    if mark:
        (tmp_path / mark).mkdir()
    assert root_of(recipes / "t.ft") == (tmp_path if mark else recipes).resolve()


def test_what_is_done_is_done_from_everywhere(tmp_path: Path) -> None:
    (tmp_path / "t.ft").write_text(SHELL, encoding="utf-8")
    (tmp_path / "other" / "deep").mkdir(parents=True)
    assert run(tmp_path, "t.ft")["statuses"] == {"a": "done"}
    assert run(tmp_path / "other", "../t.ft")["statuses"] == {"a": "cached"}
    assert run(tmp_path / "other" / "deep", str(tmp_path / "t.ft"))["statuses"] == {"a": "cached"}
    output = json.loads(ftc("plan", "../t.ft", "--json", cwd=tmp_path / "other").stdout)
    assert output["stages"][0]["state"] == "done"
    assert not list((tmp_path / "other").rglob("runs"))


@pytest.mark.slow
def test_two_recipes_of_one_name_never_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "ftc.toml").touch()
    files = ["a/train.ft", "b/train.ft", "训练.ft", "评估.ft", "named.ft"]
    for number, name in enumerate(files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = SHELL.replace("TEXT", str(number))
        (tmp_path / name).write_text(f'name = "train"\n{text}' if name == "named.ft" else text, encoding="utf-8")
    homes, builds = set(), set()
    for number, name in enumerate(files):
        document = run(tmp_path, name)
        folder = tmp_path / document["run"]
        assert (folder / "a.txt").read_text(encoding="utf-8") == f"{number}\n"
        homes.add(folder.parent)
        done = ftc("compile", name, "--json", cwd=tmp_path)
        builds.add(json.loads(done.stdout)["folder"])
    assert len(homes) == len(builds) == len(files)
    for name in files:
        assert run(tmp_path, name)["statuses"] == {"a": "cached"}
        output = json.loads(ftc("plan", name, "--json", cwd=tmp_path).stdout)
        assert output["stages"][0]["state"] == "done"


@pytest.mark.slow
def test_variants_have_folders_of_their_own_and_share_what_is_the_same(tmp_path: Path) -> None:
    text = 'param x = 1\nshell same { run = "date +%N > s.txt", outputs = ["s.txt"] }\n' + SHELL.replace("TEXT", "{x}")
    (tmp_path / "r.ft").write_text(text + 'profile p { a.outputs = ["a.txt"] }\n', encoding="utf-8")
    first = run(tmp_path, "r.ft")
    second = run(tmp_path, "r.ft", "-p", "x=2")
    assert second["statuses"] == {"same": "cached", "a": "done"}
    assert Path(first["run"]).parent != Path(second["run"]).parent
    assert run(tmp_path, "r.ft")["statuses"] == {"same": "cached", "a": "cached"}
    assert run(tmp_path, "r.ft", "-p", "x=2")["statuses"] == {"same": "cached", "a": "cached"}
    third = json.loads(ftc("plan", "r.ft", "-p", "x=3", "--json", cwd=tmp_path).stdout)
    assert [stage["state"] for stage in third["stages"]] == ["done", "changed"], "compared with the recipe as it is"


@pytest.mark.slow
def test_two_variants_run_side_by_side(tmp_path: Path) -> None:
    text = "param x = 1\n" + 'shell a { run = "touch inputs/{x}.sign; sleep 3" }\n'
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    begun = time.monotonic()
    both = [
        subprocess.Popen([sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "-p", f"x={x}"], cwd=tmp_path)
        for x in (1, 2)
    ]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert {path.name for path in tmp_path.glob("*.sign")} == {"1.sign", "2.sign"}, begun


@pytest.mark.parametrize(
    "sets", [("sft.optim.lr=1e-4",), ('sft.model=file("../x")',), ("a" * 300,), ("x=$(touch pwned)", "y=\n/")]
)
def test_a_variants_folder_is_a_plain_name(sets: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text(SHELL, encoding="utf-8")
    home = home_of(tmp_path / "r.ft", "r", Options((), sets))
    assert home.parent.name == "runs" and len(home.name) < 100 and "/" not in home.name.strip("/")
    other = home_of(tmp_path / "r.ft", "r", Options((), (*sets, "z=1")))
    assert home.name != other.name and home.name != "r"
    assert build_of(tmp_path / "r.ft", "r").name == "r"
