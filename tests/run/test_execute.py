"""The stage graph carried out, with stages that need no engine: order, cache, going on, stopping, failing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.store import load
from tests.conftest import ftc, until

ROWS = "".join(json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(40))
RECIPE = """
data rows {
  source  = file("rows.jsonl")
  holdout { eval = 25% }
}
shell count {
  after   = rows
  run     = "wc -l < {rows.path}/train.jsonl > count.txt && echo counted >> inputs/log.txt"
  outputs = ["count.txt"]
}
shell last {
  after   = count
  run     = "cat count.txt > last.txt"
  outputs = ["last.txt"]
}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    (tmp_path / "r.ft").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def run(place: Path, *arguments: str) -> dict[str, Any]:
    done = ftc("run", "r.ft", "--json", *arguments, cwd=place)
    assert "Traceback" not in done.stderr, done.stderr
    document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return document | {"code": done.returncode, "stderr": done.stderr}


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["status"] for stage in document["stages"]}


@pytest.mark.slow
def test_in_order_then_not_again_then_only_what_changed(place: Path) -> None:
    first = run(place)
    assert first["code"] == 0, first["stderr"]
    assert statuses(first) == {"rows": "done", "count": "done", "last": "done"}
    folder = place / first["run"]
    rows = len((folder / "10-rows" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    assert int((folder / "last.txt").read_text(encoding="utf-8")) == rows
    assert (place / "runs" / "r" / "last").samefile(folder)

    second = run(place)
    assert statuses(second) == {"rows": "cached", "count": "cached", "last": "cached"}
    assert second["run"] == first["run"], "nothing to do: no new run"
    assert (place / "log.txt").read_text(encoding="utf-8") == "counted\n"

    (place / "r.ft").write_text(f"# a remark\n\n{RECIPE}", encoding="utf-8")
    assert set(statuses(run(place)).values()) == {"cached"}, "where a stage stands in the recipe does not matter"

    (place / "r.ft").write_text('shell before { run = "true" }\n' + RECIPE, encoding="utf-8")
    shifted = run(place)
    assert statuses(shifted) == {"before": "done", "rows": "cached", "count": "cached", "last": "cached"}
    assert (place / shifted["run"] / "20-rows" / "train.jsonl").exists(), "under its new number"
    assert shifted["stages"][1]["path"].endswith("20-rows")

    (place / "r.ft").write_text(RECIPE.replace("cat count.txt", "cat count.txt count.txt"), encoding="utf-8")
    third = run(place)
    assert statuses(third)["rows"] == "cached"
    assert statuses(third)["last"] == "done"
    assert third["run"] != first["run"]

    (place / "rows.jsonl").write_text(ROWS + ROWS.replace("q", "x"), encoding="utf-8")
    assert set(statuses(run(place)).values()) == {"done"}, "new data: everything that follows from it"
    assert set(statuses(run(place, "--fresh")).values()) == {"done"}
    forced = statuses(run(place, "--force", "last"))
    assert forced["rows"] == "cached"
    assert forced["last"] == "done"


@pytest.mark.slow
def test_a_failure_is_loud_and_gone_on_from(place: Path) -> None:
    (place / "r.ft").write_text(RECIPE.replace("wc -l", "echo it broke >&2; exit 7; wc -l"), encoding="utf-8")
    failed = run(place)
    assert failed["code"] == 1
    assert statuses(failed) == {"rows": "done", "count": "failed", "last": "skipped"}
    done = ftc("run", "r.ft", cwd=place)
    assert "it broke" in done.stderr
    assert "log.txt" in done.stdout
    (place / "r.ft").write_text(RECIPE, encoding="utf-8")
    again = run(place)
    assert statuses(again) == {"rows": "cached", "count": "done", "last": "done"}
    assert again["run"] == failed["run"], "an unfinished run is gone on with"


def test_a_bad_row_fails_the_stage_with_file_and_line(place: Path) -> None:
    (place / "rows.jsonl").write_text(ROWS + '{"instruction": "q"}\n', encoding="utf-8")
    done = ftc("run", "r.ft", cwd=place)
    assert done.returncode == 1
    assert "rows.jsonl:41: no `output`" in done.stderr


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.slow
def test_ctrl_c_stops_cleanly(times: int, place: Path) -> None:
    """Asked once, a stage may end by itself; one that will not is killed at the second Ctrl-C."""
    answer = "touch inputs/asked" + ("; exit 1" if times == 1 else "")
    slow = f"trap '{answer}' TERM; touch inputs/started; for i in $(seq 3000); do sleep 0.1; done"
    text = RECIPE.replace('run     = "wc', f'run     = "{slow}; wc')
    (place / "r.ft").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain"]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until((place / "started").exists, "the stage starts")
    assert below(place), "its processes are seen while they live"
    process.send_signal(signal.SIGINT)
    until((place / "asked").exists, "the stage is asked to stop")
    if times == 2:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "stopped" in out
    left = load(place / "runs" / "r" / "last")
    assert left and not left.finished
    assert (left.jobs["rows"].status, left.jobs["count"].status) == ("done", "stopped")
    until(lambda: not below(place), "no child outlives ftc", 5)
    (place / "r.ft").write_text(RECIPE, encoding="utf-8")
    assert statuses(run(place)) == {"rows": "cached", "count": "done", "last": "done"}


def below(place: Path) -> list[str]:
    """Processes whose working directory is below a folder."""
    found = []
    for home in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
            if home.readlink().is_relative_to(place) and int(home.parent.name) != os.getpid():
                found.append(home.parent.name)
    return found


@pytest.mark.slow
def test_one_run_of_a_recipe_at_a_time(place: Path) -> None:
    wait = "touch inputs/started; until [ -e inputs/go ]; do sleep 0.1; done; wc -l"
    (place / "r.ft").write_text(RECIPE.replace("wc -l", wait), encoding="utf-8")
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain"]
    process = subprocess.Popen(command, cwd=place, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until((place / "started").exists, "the stage starts")
        done = ftc("run", "r.ft", cwd=place)
    finally:
        (place / "go").touch()
    assert done.returncode == 1
    assert re.search(r"process \d+ runs `r` already; type: ftc watch", done.stderr)
    assert process.wait(timeout=60) == 0


def test_independent_stages_run_side_by_side(place: Path) -> None:
    """Two that wait for each other's sign end only when both run."""
    wait = "for i in $(seq {patience}); do [ -e {other}.sign ] && exit 0; sleep 0.1; done; exit 1"

    def text(patience: int) -> str:
        return "".join(
            f'shell {own} {{ run = "touch {own}.sign; {wait.format(other=other, patience=patience)}" }}\n'
            for own, other in (("a", "b"), ("b", "a"))
        )

    (place / "r.ft").write_text(text(1200), encoding="utf-8")
    if len(os.sched_getaffinity(0)) >= 2:
        assert run(place)["code"] == 0
    (place / "r.ft").write_text(text(2), encoding="utf-8")
    assert run(place, "--fresh", "-j", "1")["code"] == 1, "one at a time they cannot meet"


@pytest.mark.slow
def test_run_by_hand_does_the_same(place: Path) -> None:
    document = run(place)
    assert ftc("compile", "r.ft", cwd=place).returncode == 0
    env = {**os.environ, "FT_PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", "build/r/run.sh", "by hand"], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("10-rows/train.jsonl", "10-rows/eval.jsonl", "10-rows/report.json", "last.txt"):
        assert (place / "by hand" / name).read_bytes() == (place / document["run"] / name).read_bytes()
    again = subprocess.run(
        ["bash", "build/r/run.sh", "by hand"], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert "done before" in again.stdout


def test_a_missing_engine_is_one_sentence(place: Path, tmp_path: Path) -> None:
    text = 'sft {\n  model = hf("a/b")\n  data = file("rows.jsonl")\n}\n'
    (place / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("run", "r.ft", cwd=place, FTC_ENGINE_PYTHON="", HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "there is no engine `llamafactory` here; type: ftc engine install llamafactory" in done.stderr
    named = ftc("run", "r.ft", "--engine-python", "/nowhere/python", cwd=place)
    assert named.returncode == 1
    assert "/nowhere/python (named by --engine-python) is not there" in named.stderr


@pytest.mark.slow
def test_unknown_stage_on_the_command_line(place: Path) -> None:
    done = ftc("run", "r.ft", "--only", "cuont", cwd=place)
    assert done.returncode == 1
    assert "no stage `cuont`; stages: rows, count, last" in done.stderr
    assert statuses(run(place, "--only", "count")) == {"rows": "done", "count": "done"}
