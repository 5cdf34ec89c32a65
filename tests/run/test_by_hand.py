"""What `run.sh` made is known to `ftc`, when it is this build's result and was made of the same files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ftc

RECIPE = """
data rows { source = file("data") }
shell a { after = rows, run = "python3 inputs/work.py < {rows.path}/train.jsonl > a.txt", outputs = ["a.txt"] }
shell b { after = a, run = "cp a.txt b.txt", outputs = ["b.txt"] }
"""
ROWS = "".join(json.dumps({"instruction": f"q{number}", "output": f"a{number}"}) + "\n" for number in range(20))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("x.jsonl", "y.jsonl"):
        (tmp_path / "data" / name).write_text(ROWS.replace("q", name[0]), encoding="utf-8")
    (tmp_path / "work.py").write_text("import sys\nprint(len(sys.stdin.readlines()))\n", encoding="utf-8")
    (tmp_path / "r.ft").write_text(RECIPE, encoding="utf-8")
    assert by_hand(tmp_path).returncode == 0
    return tmp_path


def by_hand(place: Path) -> subprocess.CompletedProcess[str]:
    """Compiled, and run without `ftc`."""
    assert ftc("compile", "r.ft", cwd=place).returncode == 0
    return run_sh(place)


def run_sh(place: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FT_PYTHON": sys.executable}
    return subprocess.run(["bash", "build/r/run.sh"], cwd=place, capture_output=True, text=True, check=False, env=env)


def states(place: Path) -> dict[str, str]:
    document = json.loads(ftc("plan", "r.ft", "--json", cwd=place).stdout)
    return {stage["stage"]: stage["state"] for stage in document["stages"]}


@pytest.mark.slow
def test_it_is_done_for_ftc(place: Path) -> None:
    assert set(states(place).values()) == {"done"}
    document = json.loads(ftc("run", "r.ft", "--json", cwd=place).stdout)
    assert {stage["status"] for stage in document["stages"]} == {"cached"}
    assert document["stages"][0]["kind"] == "dataset" and document["stages"][0]["path"].endswith("10-rows")
    assert (place / document["run"] / "b.txt").read_text(encoding="utf-8") == "40\n"
    assert set(states(place).values()) == {"done"}


@pytest.mark.slow
def test_a_copied_folder_is_known_too(place: Path) -> None:
    """Made on another machine, and copied here with new times."""
    shutil.copytree(place / "runs/r/by-hand", place / "runs/r/from-cluster", symlinks=True)
    shutil.rmtree(place / "runs/r/by-hand")
    assert set(states(place).values()) == {"done"}


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "runs_again"),
    [
        (write("data/x.jsonl", ROWS), {"rows", "a", "b"}),
        (write("data/z.jsonl", ROWS), {"rows", "a", "b"}),
        (lambda place: (place / "data/y.jsonl").unlink(), {"rows", "a", "b"}),
        (write("work.py", "print(1)\n"), {"a", "b"}),
        (write("r.ft", RECIPE.replace("cp a.txt", "cat a.txt >")), {"b"}),
        (write("r.ft", f"# a remark\n{RECIPE}"), set()),
        (write("runs/r/by-hand/a.txt", "41\n"), {"a"}),
        (lambda place: (place / "runs/r/by-hand/20-a/done").unlink(), {"a", "b"}),
        (write("runs/r/by-hand/20-a/launch.sh", "echo another\n"), {"a", "b"}),
        (write("runs/r/by-hand/10-rows/.by-hand.json", "[]"), {"rows", "a", "b"}),
        (write("runs/r/by-hand/10-rows/.by-hand.json", '{"made": 1, "inputs": 2}'), {"rows", "a", "b"}),
    ],
    ids=["data", "more data", "less data", "script", "recipe", "remark", "result", "undone", "build", "garbage", "shape"],
)  # fmt: skip
@pytest.mark.slow
def test_what_is_another_runs_again(change: Callable[[Path], object], runs_again: set[str], place: Path) -> None:
    change(place)
    assert {stage for stage, state in states(place).items() if state != "done"} == runs_again
    document = json.loads(ftc("run", "r.ft", "--json", cwd=place).stdout)
    assert {stage["stage"] for stage in document["stages"] if stage["status"] == "done"} == runs_again


@pytest.mark.slow
def test_a_file_that_changes_while_it_runs_is_not_trusted(place: Path) -> None:
    shutil.rmtree(place / "runs")
    text = RECIPE.replace("python3 inputs/work.py", "echo '# more' >> inputs/work.py; python3 inputs/work.py")
    (place / "r.ft").write_text(text, encoding="utf-8")
    assert "changed while it ran" in by_hand(place).stderr
    assert states(place) == {"rows": "done", "a": "new", "b": "new"}


@pytest.mark.parametrize("name", ["data/x.jsonl", "work.py"])
@pytest.mark.slow
def test_run_sh_refuses_what_was_made_of_other_files(name: str, place: Path) -> None:
    assert by_hand(place).stdout.count("done before") == 3
    (place / name).write_text("", encoding="utf-8")
    again = run_sh(place)
    assert again.returncode == 1 and f"{name} is not what it was made of" in again.stderr
    assert "remove runs/r/by-hand/" in again.stderr


@pytest.mark.slow
def test_nor_does_it_keep_what_was_made_of_another_result(place: Path) -> None:
    (place / "work.py").write_text("print(3)\n", encoding="utf-8")
    shutil.rmtree(place / "runs/r/by-hand/20-a")
    again = run_sh(place)
    assert again.returncode == 1 and "30-b: 20-a is not what it was made of" in again.stderr
    assert states(place) == {"rows": "done", "a": "done", "b": "new"}


@pytest.mark.slow
def test_no_checkpoint_of_another_build_is_resumed(place: Path) -> None:
    """A destination is marked with a key of the build and of what it reads."""
    text = RECIPE.replace("cp a.txt b.txt", "echo $FTC_STAGE_KEY >> b.txt; exit 1")
    (place / "r.ft").write_text(text, encoding="utf-8")
    shutil.rmtree(place / "runs")
    assert by_hand(place).returncode == by_hand(place).returncode == 1
    (place / "r.ft").write_text(text.replace("exit 1", "exit 2"), encoding="utf-8")
    assert by_hand(place).returncode == 2
    first, second, third = (place / "runs/r/by-hand/b.txt").read_text(encoding="utf-8").split()
    assert first == second != third
