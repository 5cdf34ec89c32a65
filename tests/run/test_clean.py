"""`ftc clean` removes what nothing needs, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ftc, until
from tests.run.test_orphans import SLOW, go, living

RECIPE = """
shell a {{ run = "echo {text} > a.txt", outputs = ["a.txt"] }}
shell b {{ after = a, run = "echo {more} > b.txt", outputs = ["b.txt"] }}
"""


def run(place: Path, text: str, more: str = "x", *arguments: str) -> Path:
    """A run with these settings; its folder."""
    (place / "r.ft").write_text(RECIPE.format(text=text, more=more), encoding="utf-8")
    done = ftc("run", "r.ft", "--json", *arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    return place / str(json.loads(done.stdout)["run"])


def clean(place: Path, *arguments: str) -> dict[str, Any]:
    done = ftc("clean", "--json", *arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def paths(document: dict[str, Any]) -> set[str]:
    return {item["path"] for item in document["removable"]}


def test_a_run_that_a_newer_one_replaced(tmp_path: Path) -> None:
    first, second = run(tmp_path, "1"), run(tmp_path, "2")
    shown = clean(tmp_path)
    assert paths(shown) == {first.relative_to(tmp_path).as_posix()} and shown["bytes"] > 0
    assert first.is_dir() and "nothing is removed yet" in ftc("clean", cwd=tmp_path).stderr
    gone = clean(tmp_path, "--yes")
    assert gone["removable"][0]["removed"] and not first.exists() and second.is_dir()
    assert paths(clean(tmp_path)) == set()
    assert ftc("plan", "r.ft", "--exit-code", cwd=tmp_path).returncode == 0, "all is done as before"
    assert "nothing to remove" in ftc("clean", cwd=tmp_path).stderr


@pytest.mark.slow
def test_a_run_that_another_links_to_stays(tmp_path: Path) -> None:
    """The newest run uses `a` of the first by a link; a run between them nobody uses."""
    first, second, third = run(tmp_path, "1", "x"), run(tmp_path, "1", "y"), run(tmp_path, "1", "z")
    assert (third / "10-a").is_symlink()
    assert paths(clean(tmp_path, "--yes")) == {second.relative_to(tmp_path).as_posix()}
    assert (third / "a.txt").read_text(encoding="utf-8") == "1\n" and first.is_dir()
    assert ftc("plan", "r.ft", "--exit-code", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_a_variant_and_another_recipe_that_link_keep_it_too(tmp_path: Path) -> None:
    first = run(tmp_path, "1")
    (tmp_path / "v.ft").write_text(RECIPE.format(text="1", more="v"), encoding="utf-8")
    run(tmp_path, "1", "x", "--set", "b.after=a")
    run(tmp_path, "2")
    linked = any(path.is_symlink() and path.resolve().is_relative_to(first) for path in tmp_path.glob("runs/*/*/10-a"))
    assert linked and paths(clean(tmp_path)) == set()


@pytest.mark.slow
def test_what_a_recipe_names_stays(tmp_path: Path) -> None:
    first, _ = run(tmp_path, "1"), run(tmp_path, "2")
    name = first.relative_to(tmp_path).as_posix()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.ft").write_text(f'sft {{ model = file("../{name}/10-a") }}\n', encoding="utf-8")
    assert paths(clean(tmp_path)) == set()


@pytest.mark.slow
def test_a_result_at_its_destination_stays_known(tmp_path: Path) -> None:
    text = RECIPE.format(text="1", more="x").replace("a.txt", "inputs/out.txt")
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    assert ftc("run", "r.ft", cwd=tmp_path).returncode == 0
    (tmp_path / "r.ft").write_text('shell c { run = "true" }\n', encoding="utf-8")
    assert ftc("run", "r.ft", cwd=tmp_path).returncode == 0
    assert paths(clean(tmp_path)) == set()
    (tmp_path / "out.txt").unlink()
    assert len(paths(clean(tmp_path))) == 1


@pytest.mark.slow
def test_what_was_set_aside_and_the_ledger(tmp_path: Path) -> None:
    first, second = run(tmp_path, "1"), run(tmp_path, "2")
    with (first / "events.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"event": "guard", "stage": "a", "message": "loss is nan", "schema": 1, "time": 1}\n')
    for path in ("10-a/result/model.safetensors", "10-a/metrics.jsonl"):
        (first / path).parent.mkdir(exist_ok=True)
        (first / path).write_text("x", encoding="utf-8")
    for path in ("10-a.before-1/result/checkpoint-5", "20-b/result/broken-checkpoint-7", "20-b/result/checkpoint-6"):
        (second / path).mkdir(parents=True)
    shown = paths(clean(tmp_path, "--yes"))
    assert {path.partition("/")[2].split("/", 2)[2] for path in shown} >= {
        "10-a.before-1", "20-b/result/broken-checkpoint-7", "10-a/result",
    }  # fmt: skip
    assert (first / "events.jsonl").exists() and (first / "10-a/metrics.jsonl").exists(), "the ledger"
    assert not (first / "10-a/result").exists() and not (second / "10-a.before-1").exists()
    assert (second / "20-b/result/checkpoint-6").is_dir()


def test_earlier_results_beside_a_destination(tmp_path: Path) -> None:
    """Those with the mark of a stage; what else has such a name is somebody's."""
    folder = run(tmp_path, "1")
    result = {"kind": "model", "path": "inputs/saves/m", "metrics": {}}
    (folder / "10-a" / "result.json").write_text(json.dumps(result), encoding="utf-8")
    for name in ("m", "m.before-1", "m.before-2", "other.before-1"):
        (tmp_path / "saves" / name).mkdir(parents=True)
    for name in ("m", "m.before-1", "other.before-1"):
        (tmp_path / "saves" / name / ".ftdsl.json").write_text("{}", encoding="utf-8")
    assert paths(clean(tmp_path)) == {"saves/m.before-1"}


@pytest.mark.slow
def test_what_to_type_next_removes_no_more_than_is_shown(tmp_path: Path) -> None:
    run(tmp_path, "1")
    run(tmp_path, "2")
    for run_folder in (tmp_path / "runs" / "r").glob("2*"):
        for path in (run_folder, *run_folder.rglob("*")):
            os.utime(path, (1, 1), follow_symlinks=False)
    shown = ftc("clean", "r.ft", "--older-than", "7d", cwd=tmp_path)
    assert "next: ftc clean r.ft --older-than 7d --yes" in shown.stderr and " KiB " in shown.stdout
    assert "there is no `s.ft`" in ftc("clean", "s.ft", cwd=tmp_path).stderr


@pytest.mark.slow
def test_age_smoke_runs_and_what_runs(tmp_path: Path) -> None:
    run(tmp_path, "1")
    shutil.copytree(tmp_path / "runs" / "r", tmp_path / "runs" / "r.smoke", symlinks=True)
    assert len(paths(clean(tmp_path))) == 1
    assert paths(clean(tmp_path, "--older-than", "1h")) == set()
    assert ftc("clean", "--older-than", "1 month", cwd=tmp_path).returncode == 2
    (tmp_path / "s.ft").write_text(SLOW, encoding="utf-8")
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "s.ft", "--detach"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    try:
        until(lambda: (tmp_path / "trace.txt").exists(), "it runs")
        shown = ftc("clean", "--yes", cwd=tmp_path)
        assert shown.returncode == 0 and "runs/s is left as it is: it runs" in shown.stderr
        assert living(tmp_path)
    finally:
        go(tmp_path)
        until(lambda: not living(tmp_path), "it ends")


@pytest.mark.parametrize("kind", ["link", "file"])
@pytest.mark.slow
def test_nothing_outside_is_removed(kind: str, tmp_path: Path) -> None:
    """A link that came with a repository leads nowhere."""
    victim = tmp_path.parent / f"victim-{tmp_path.name}"
    (victim / "20200101-000000").mkdir(parents=True)
    first = run(tmp_path, "1")
    (first.parent / "20200101-000000").symlink_to(victim / "20200101-000000")
    (tmp_path / "runs" / "x").symlink_to(victim)
    (victim / ".recipe").write_text("{}", encoding="utf-8")
    assert paths(clean(tmp_path, "--yes")) == set() and (victim / "20200101-000000").is_dir()
