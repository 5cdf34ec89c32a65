"""A run's events: what a view shows and what a later run takes for done are folds over them, whole up to where they are whole."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from ftdsl.observe.progress import Status, fold
from ftdsl.run import events as run_events
from ftdsl.run.store import Run, load
from ftdsl.runtime import events
from ftdsl.runtime.report import Log
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "stage", "stage": "a", "status": "done", "made": 5}',
        '{"event": "stage", "stage": "a", "made": {"x": [1, 2]}, "facts": {"settings": 3}}',
        '{"event": "stage", "stage": "a", "key": 7, "folder": [], "cards": {}, "facts": []}',
        '{"event": "run", "stages": [5]}',
        '{"event": "run", "stages": [{"key": 5}]}',
        '{"event": "run", "stages": {}}',
        '{"event": "stage"}',
        "\0" * 64,
    ],
)
@pytest.mark.slow
def test_nor_does_one_of_the_run_itself(line: str, tmp_path: Path) -> None:
    """What a disk or a person made of `events.jsonl`: the run is there, and what it has done is looked at as ever."""
    (tmp_path / "r.ft").write_text('shell a { run = "echo x > x.txt", outputs = ["x.txt"] }\n', encoding="utf-8")
    assert ftc("run", "r.ft", cwd=tmp_path).returncode == 0
    path = tmp_path / "runs" / "r" / "last" / "events.jsonl"
    with path.open("a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")
    for verb in ("plan", "status", "run"):
        done = ftc(verb, "r.ft", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert load(path.parent.resolve())


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


def test_lines_that_do_not_fit_leave_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that may not grow is as a disk that is full: half a line would take the next one with it."""
    log, run = Log(str(tmp_path)), Run(tmp_path)
    run.record("run", id="x", name="x", smoke=False, stages=[])
    log.event("step", step=1, loss=1.0)
    files = [tmp_path / "events.jsonl", tmp_path / "metrics.jsonl"]
    before = [path.read_bytes() for path in files]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(map(len, before)) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match=r"events\.jsonl"):
            run.record("stage", stage="a", status="done", folder="10-a", message="x" * 200)
        for step in (2, 3):
            log.event("note", message=f"{step}" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.read_bytes() for path in files] == before
    assert capsys.readouterr().err.count("metrics.jsonl cannot be written") == 1, "a training does not end for it"
    run.record("stage", stage="b", status="done", folder="20-b")
    loaded = load(tmp_path)
    assert loaded is not None and list(loaded.jobs) == ["a", "b"], "what was kept is written with the next"


@pytest.mark.slow
def test_what_runs_goes_on_while_events_cannot_be_written(tmp_path: Path) -> None:
    """Its events are written once they can be; until then nothing is started."""
    text = '''
shell a { run = """
until grep -q '"stage": "c", "handle"' events.jsonl; do sleep 0.05; done
mv events.jsonl kept; ln -s nowhere events.jsonl
until [ -e 20-c/.exit ]; do sleep 0.05; done
sleep 1.5; mv -f kept events.jsonl
""" }
shell c { run = "until [ -L events.jsonl ]; do sleep 0.05; done; echo while > inputs/seen" }
shell b { after = c, run = "[ ! -L events.jsonl ]" }
'''
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    done = ftc("run", "r.ft", "--json", "-j", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").exists()
    assert done.stderr.count("events.jsonl: is a link") == 1 and "what runs goes on" in done.stderr
    run = load((tmp_path / "runs" / "r" / "last").resolve())
    assert run is not None and {state.status for state in run.jobs.values()} == {"done"}
