"""Where all is done `ftc run` says so without rendering anything: the same outcome as the long way gives, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ftc

RECIPE = """
data rows {{ source = file("rows.jsonl"), holdout {{ eval = 25% }} }}
shell a {{ after = rows, run = "{command} > a.txt", outputs = ["a.txt"] }}
shell b {{ after = a, run = "cat a.txt > b.txt", outputs = ["b.txt"] }}
"""
ROWS = "".join(json.dumps({"instruction": f"q{number}", "output": f"a{number}"}) + "\n" for number in range(40))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path)
    assert ftc("run", "r.ft", cwd=tmp_path).returncode == 0
    return tmp_path


def write(place: Path, command: str = "echo 1", rows: str = ROWS) -> None:
    (place / "rows.jsonl").write_text(rows, encoding="utf-8")
    (place / "r.ft").write_text(RECIPE.format(command=command), encoding="utf-8")


def document(place: Path, *arguments: str) -> dict[str, Any]:
    done = ftc("run", "r.ft", "--json", *arguments, cwd=place)
    found: dict[str, Any] = json.loads(done.stdout)
    found.pop("seconds")
    return found


def state(place: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in place.rglob("*")}


def test_the_same_as_the_long_way(place: Path) -> None:
    """`--verify` reads all results, so it takes the long way."""
    before = state(place)
    short = document(place)
    assert {stage["status"] for stage in short["stages"]} == {"cached"} and short["status"] == 0
    assert state(place) == before
    assert short == document(place, "--verify")
    short_text, long_text = ftc("run", "r.ft", cwd=place), ftc("run", "r.ft", "--verify", cwd=place)
    assert short_text.stdout == long_text.stdout
    assert "nothing to do: all 3 stages are done" in short_text.stderr and "data card" in short_text.stderr


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda place: write(place, "echo 2"), {"a", "b"}),
        (lambda place: write(place, rows=ROWS * 2), {"rows", "a", "b"}),
        (lambda place: (place / "runs/r/last/b.txt").write_text("damaged", encoding="utf-8"), {"b"}),
        (lambda place: (place / "runs/r/last/a.txt").unlink(), {"a"}),
        (lambda place: (place / "r.lock").unlink(), set()),
        (lambda place: (place / "runs/r/last").unlink(), set()),
        (lambda place: (place / "runs/r/last/events.jsonl").write_text("", encoding="utf-8"), {"rows", "a", "b"}),
    ],
    ids=["setting", "data", "damaged", "gone", "lock", "last", "events"],
)
@pytest.mark.slow
def test_what_is_not_done_runs(change: Callable[[Path], object], again: set[str], place: Path) -> None:
    change(place)
    done = document(place)
    assert done["status"] == 0
    assert {stage["stage"] for stage in done["stages"] if stage["status"] == "done"} == again
    assert (place / "r.lock").exists()


@pytest.mark.parametrize("option", ["--fresh", "--force=a", "--only=a", "--frozen"])
@pytest.mark.slow
def test_what_is_asked_for_is_done(option: str, place: Path) -> None:
    done = document(place, option)
    assert done["status"] == 0
    ran = {stage["stage"] for stage in done["stages"] if stage["status"] == "done"}
    assert ran == {"--fresh": {"rows", "a", "b"}, "--force=a": {"a", "b"}}.get(option, set())
