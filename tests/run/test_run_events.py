"""A run's events: what a view shows and what a later run takes for done are folds over them, whole up to where they are whole."""

from __future__ import annotations

import json
from pathlib import Path

from ftdsl.observe.progress import Status, fold
from ftdsl.run import events as run_events
from ftdsl.run.store import load
from ftdsl.runtime import events
from tests.conftest import ftc

RECIPE = """
shell one { run = "echo 1 > one.txt", outputs = ["one.txt"] }
shell two { after = one, run = "cat one.txt > two.txt", outputs = ["two.txt"] }
shell bad { after = one, run = "exit 7" }
shell never { after = bad, run = "true" }
"""


def ran(place: Path, text: str = RECIPE) -> Path:
    (place / "r.ft").write_text(text, encoding="utf-8")
    ftc("run", "r.ft", cwd=place)
    return (place / "runs" / "r" / "last").resolve()


def test_a_run_is_a_fold_over_its_events(tmp_path: Path) -> None:
    folder = ran(tmp_path)
    found = run_events.read(folder)
    assert all(event["time"] > 1e9 and event["schema"] == events.SCHEMA for event in found)
    progress = fold(found, folder)
    assert {stage.key: stage.status.value for stage in progress.stages} == {
        "one": "done", "two": "done", "bad": "failed", "never": "skipped"
    }  # fmt: skip
    assert (progress.name, progress.id) == ("r", folder.name)
    assert fold(found, folder) == progress, "the same events give the same"
    follower = run_events.Follower(folder)
    follower.update()
    assert [stage.status for stage in follower.progress.stages] == [stage.status for stage in progress.stages]


def test_it_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    """After a power cut at any byte: no event is made up, none before the cut is lost, and the run can be resumed."""
    folder = ran(tmp_path)
    path, whole = folder / "events.jsonl", (folder / "events.jsonl").read_bytes()
    for size in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:size])
        found = run_events.read(folder)
        assert len(found) == whole[:size].count(b"\n")
        run = load(folder)
        assert (run is None) == (not found)
        states = {key: state.status for key, state in run.jobs.items()} if run else {}
        progress = fold(found, folder)
        assert all(states.get(stage.key, "waiting") == stage.status for stage in progress.stages)
    path.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "r.ft").write_text(RECIPE.replace("exit 7", "true"), encoding="utf-8")
    done = ftc("run", "r.ft", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line) for line in path.read_bytes().splitlines()[-3:]), (
        "what comes after a torn line is whole"
    )
    assert fold(run_events.read(folder), folder).having(Status.DONE, Status.CACHED)


def test_an_event_of_any_shape_ends_nothing(tmp_path: Path) -> None:
    """`"remaining": "inf"` ended ftc, and with it every other stage."""
    lines = [
        '{"event": "step", "step": 1, "loss": 1, "remaining": "inf"}',
        '{"event": "step", "step": 1' + "0" * 400 + "}",
        '{"event": "gate"}',
        '{"event": "end", "error": [1]}',
        "[[[[",
    ]
    (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "r.ft").write_text(
        'shell a { run = "cat inputs/bad.jsonl >> 10-a/metrics.jsonl; sleep 1" }\n'
        'shell b { run = "sleep 2; touch inputs/b.txt" }\n',
        encoding="utf-8",
    )
    done = ftc("run", "r.ft", "--plain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.txt").exists()
    assert "warning: a: `remaining` of an event `step` is 'inf': not finite; it is left out" in done.stderr


def test_a_second_failure_shows_its_own_rows_alone(tmp_path: Path) -> None:
    rows = [json.dumps({"instruction": f"q{n}", "output": f"a{n}"}) for n in range(9)]
    bad = [*rows, *['{"instruction": "q"}'] * 3]
    (tmp_path / "r.ft").write_text('data d { source = file("rows.jsonl") }\n', encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("\n".join(bad) + "\n", encoding="utf-8")
    first = ftc("run", "r.ft", cwd=tmp_path)
    assert "rows.jsonl:10: no `output`" in first.stderr
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, *rows, *bad[9:]]) + "\n", encoding="utf-8")
    second = ftc("run", "r.ft", cwd=tmp_path)
    assert "rows.jsonl:19: no `output`" in second.stderr
    assert "rows.jsonl:10:" not in second.stderr
