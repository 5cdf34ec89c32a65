"""The same recipe gives the same bytes: in other processes, with other hash seeds, and nothing of this process is in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALPACA, COMPILED, CORPUS, ROOT, ftc

EVERY = """
let x = "a b"
env { TOKEN = secret("MY_TOKEN"), PLAIN = x }
data rows { source = file("rows.jsonl", limit = 3), tokens = 1 .. 4Ki, holdout { eval = 25% }, languages = [en, de] }
shell one { run = "echo {x} {rows.path}", outputs = ["a"], inputs = [file("rows.jsonl")] }
shell two { after = one, run in ["true", "echo {x}"] }
sft { model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch, lora { targets = [q_proj] }, hardware { nodes = 1 .. 2 } }
"""


RECIPES = {**{path.stem: path for path in [*COMPILED, *CORPUS]}, "every kind of value": None}
SEEDS = ("1", "2")
COMPILES = """
import sys
from pathlib import Path
from tests.command import ftc
for folder in map(Path, sys.argv[2:]):
    done = ftc("compile", "r.ft", "-o", sys.argv[1], "--no-data", cwd=folder)
    if done.returncode:
        (folder / sys.argv[1]).mkdir(exist_ok=True)
        (folder / sys.argv[1] / "stderr").write_bytes(done.stderr_bytes)
"""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each recipe, compiled into `out1` and `out2` by two processes with other hash seeds."""
    folders = {name: tmp_path_factory.mktemp("build") for name in RECIPES}
    for name, path in RECIPES.items():
        if path is None:
            (folders[name] / "r.ft").write_text(EVERY, encoding="utf-8")
        else:
            for other in path.parent.iterdir():
                if other.is_file():
                    shutil.copy(other, folders[name] / other.name)
            shutil.copy(path, folders[name] / "r.ft")
        (folders[name] / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    for seed in SEEDS:
        command = [sys.executable, "-c", COMPILES, f"out{seed}", *map(str, folders.values())]
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folders


def files_of(out: Path) -> dict[str, bytes]:
    files = {
        p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and not p.is_symlink()
    }
    return {name: content for name, content in files.items() if not name.startswith(("runtime/", "inputs/"))}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.slow
def test_a_build_is_the_same_in_another_process(name: str, builds: dict[str, Path]) -> None:
    first, second = (files_of(builds[name] / f"out{seed}") for seed in SEEDS)
    assert first
    assert first == second
    for name, content in first.items():
        assert not re.search(rb"object at 0x|\b0x[0-9a-f]{8,}|Secret\(|Range\(|Term\(|StageRef\(|Amount\(", content), (
            name
        )


def test_values_are_shown_as_a_recipe_has_them(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (tmp_path / "r.ft").write_text(EVERY, encoding="utf-8")
    assert ftc("compile", "r.ft", "-o", "out", cwd=tmp_path).returncode == 0
    manifest = json.loads(files_of(tmp_path / "out")["manifest.json"])
    values = {
        stage["key"]: {key: value["value"] for key, value in stage["values"].items()} for stage in manifest["stages"]
    }
    assert values["one"]["run"] == "echo {x} {rows.path}"
    assert values["one"]["env.TOKEN"] == 'secret("MY_TOKEN")'
    assert values["rows"]["tokens"] == "1 .. 4096"


def test_a_copy_means_the_same(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    for name in ("a.ft", "b.ft"):
        (tmp_path / name).write_text(EVERY, encoding="utf-8")
    done = ftc("diff", "a.ft", "b.ft", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for verb in ("explain", "plan"):
        assert "object at" not in ftc(verb, "a.ft", cwd=tmp_path).stdout
