"""`ftc plan` against the runs there are: new, done, changed and why, broken off; with exit codes for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ftc

ROWS = "".join(json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(40))
RECIPE = """
data rows {
  source  = file("rows.jsonl")
  holdout { eval = 25% }
}
shell count {
  after   = rows
  run     = "wc -l < {rows.path}/train.jsonl > count.txt"
  outputs = ["count.txt"]
}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    (tmp_path / "r.ft").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def done(place: Path) -> Path:
    assert ftc("run", "r.ft", cwd=place).returncode == 0
    return place


def stages(place: Path, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    printed = ftc("plan", "r.ft", "--json", *arguments, cwd=place)
    assert printed.returncode == code, printed.stderr
    return {stage["stage"]: stage for stage in json.loads(printed.stdout)["stages"]}


@pytest.mark.slow
def test_new_then_done(place: Path) -> None:
    assert {one["state"] for one in stages(place, "--exit-code", code=4).values()} == {"new"}
    assert ftc("run", "r.ft", cwd=place).returncode == 0
    after = stages(place, "--exit-code")
    assert {one["state"] for one in after.values()} == {"done"}
    assert after["rows"]["run"] == (place / "runs" / "r" / "last").readlink().name
    shown = ftc("plan", "r.ft", cwd=place)
    assert "plan: nothing to do: 2 done" in shown.stdout and "next:" not in shown.stderr


@pytest.mark.slow
def test_a_setting_that_changed_is_named_with_both_values(done: Path) -> None:
    (done / "r.ft").write_text(RECIPE.replace("25%", "50%"), encoding="utf-8")
    found = stages(done, "--exit-code", code=4)
    assert found["rows"]["why"] == ["holdout.eval 25% -> 50% (r.ft:4)"]
    assert found["count"]["why"] == ["rows runs again"]
    shown = ftc("plan", "r.ft", cwd=done).stdout
    assert "~ rows  data: changed" in shown and "plan: 2 changed" in shown


@pytest.mark.parametrize("end", ["more", "", "x" * 60])
def test_long_values_are_shown_where_they_differ(end: str, tmp_path: Path) -> None:
    script = "echo a rather long script that prints the same at its beginning {}"
    for text in (script.format("once"), script.format(f"twice {end}")):
        (tmp_path / "r.ft").write_text(f'shell s {{ run = "{text}" }}\n', encoding="utf-8")
        if text == script.format("once"):
            assert ftc("run", "r.ft", cwd=tmp_path).returncode == 0
    (why,) = stages(tmp_path)["s"]["why"]
    then, _, now = why.partition(" -> ")
    assert "once" in then and "twice" in now and len(why) < 110, why


@pytest.mark.slow
def test_a_file_that_changed_is_named(done: Path) -> None:
    (done / "rows.jsonl").write_text(ROWS + ROWS.splitlines()[0].replace("q0", "new") + "\n", encoding="utf-8")
    assert stages(done)["rows"]["why"] == ["rows.jsonl has changed"]


@pytest.mark.slow
def test_a_stage_put_in_changes_no_other(done: Path) -> None:
    (done / "r.ft").write_text('shell before { run = "true" }\n' + RECIPE, encoding="utf-8")
    assert {key: one["state"] for key, one in stages(done).items()} == {
        "before": "new",
        "rows": "done",
        "count": "done",
    }


@pytest.mark.slow
def test_a_result_that_is_gone_runs_again(done: Path) -> None:
    (done / "runs" / "r" / "last" / "count.txt").unlink()
    assert stages(done)["count"]["why"] == ["count.txt is not there any more"]


@pytest.mark.slow
def test_a_failure_is_told(place: Path) -> None:
    (place / "r.ft").write_text(RECIPE.replace("wc -l", "false && wc -l"), encoding="utf-8")
    assert ftc("run", "r.ft", cwd=place).returncode == 1
    found = stages(place, "--exit-code", code=4)["count"]
    assert found["state"] == "unfinished" and found["why"][0].startswith("failed last time")


def test_a_smoke_run_is_no_result(place: Path) -> None:
    assert ftc("run", "r.ft", "--smoke", cwd=place).returncode == 0
    assert {one["state"] for one in stages(place).values()} == {"new"}


@pytest.mark.slow
def test_several_recipes_in_one_document(done: Path) -> None:
    (done / "other.ft").write_text(RECIPE.replace("25%", "10%"), encoding="utf-8")
    printed = ftc("plan", "r.ft", "other.ft", "--json", "--exit-code", cwd=done)
    assert printed.returncode == 4
    found = json.loads(printed.stdout)["recipes"]
    assert [(one["name"], one["would_run"]) for one in found] == [("r", False), ("other", True)]


@pytest.mark.parametrize("columns", ["40", "60", "200"])
def test_lines_fit_the_terminal(columns: str, place: Path) -> None:
    """Whatever its width, and without colours where there is no terminal."""
    text = 'hardware { gpu = none }\nsft {\n  model = hf("Qwen/Qwen3-0.6B")\n  data = file("rows.jsonl")\n}\n'
    (place / "r.ft").write_text(text, encoding="utf-8")
    shown = ftc("plan", "r.ft", cwd=place, COLUMNS=columns).stdout
    assert "\x1b" not in shown and "batch" in shown
    assert all(len(line) <= int(columns) for line in shown.splitlines())


GUARDED = {
    "event": "guard",
    "step": 3,
    "anomaly": "nan",
    "action": "rollback",
    "message": "loss is nan at step 3: back",
}


def test_the_ledger_of_a_stage_is_kept_with_the_run(tmp_path: Path) -> None:
    """Each entry once in the run's own events; `ftc run` and `ftc status` show it, and have it as data."""
    (tmp_path / "event.jsonl").write_text(json.dumps(GUARDED) + "\n", encoding="utf-8")
    recipe = 'shell train { run = "cat inputs/event.jsonl >> 10-train/metrics.jsonl", outputs = [] }\n'
    (tmp_path / "r.ft").write_text(recipe, encoding="utf-8")
    ran = ftc("run", "r.ft", "--plain", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "10-train: loss is nan at step 3: back" in ran.stdout + ran.stderr
    assert "train: what its guard saw and did\n  loss is nan at step 3: back" in ran.stdout
    events = [
        json.loads(line) for line in (tmp_path / "runs/r/last/events.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    (kept,) = [event for event in events if event["event"] == "guard"]
    assert {name: kept[name] for name in GUARDED} == GUARDED and kept["stage"] == "train"
    assert "  loss is nan at step 3: back" in ftc("status", "r.ft", cwd=tmp_path).stdout
    (run,) = json.loads(ftc("status", "r.ft", "--json", cwd=tmp_path).stdout)["runs"]
    assert [entry["step"] for entry in run["stages"][0]["ledger"]] == [3]
