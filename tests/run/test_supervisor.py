"""A run outlives the terminal, and is seen and stopped from any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.control import cancel, look, supervisor_of
from tests.conftest import ftc
from tests.run.test_orphans import SLOW, end, go, living, starts, statuses, until


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "r.ft").write_text(SLOW, encoding="utf-8")
    yield tmp_path
    for pid in [supervisor_of(tmp_path / "runs" / "r"), *living(tmp_path)]:
        if pid:
            os.kill(pid, signal.SIGKILL)


def begin(place: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain"]
    process = subprocess.Popen(
        command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: (place / "trace.txt").exists())
    return process


def status(place: Path) -> dict[str, Any]:
    done = ftc("status", "r.ft", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["runs"][0]
    return found


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL], ids=["closed", "killed"])
@pytest.mark.slow
def test_closing_the_terminal_leaves_the_run(number: signal.Signals, place: Path) -> None:
    process = begin(place)
    process.send_signal(number)
    process.wait(timeout=20)
    seen = status(place)
    assert seen["running"] and seen["supervisor"] != process.pid
    assert {stage["stage"]: stage["status"] for stage in seen["stages"]} == {"a": "running", "b": "waiting"}
    go(place)
    until(lambda: not supervisor_of(place / "runs" / "r"), 60)
    assert (place / "runs" / "r" / "last" / "b.txt").read_text(encoding="utf-8") == "ok\n", (
        "all of it, not the first stage"
    )
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert statuses(done.stdout) == {"a": "cached", "b": "cached"} and len(starts(place)) == 1


@pytest.mark.slow
def test_detached_watched_and_read(place: Path) -> None:
    done = ftc("run", "r.ft", "--detach", cwd=place)
    assert done.returncode == 0 and "next: ftc watch r.ft, ftc cancel r.ft" in done.stderr
    again = ftc("run", "r.ft", cwd=place)
    assert again.returncode == 1 and "runs `r` already" in again.stderr
    text = ftc("status", cwd=place).stdout
    assert "running as process" in text and "10-a" in text
    go(place, 4)
    watched = ftc("watch", "r.ft", "--plain", cwd=place)
    assert watched.returncode == 0, watched.stderr
    assert "20-b: done" in watched.stderr
    assert not living(place)
    assert "not running" in ftc("status", "r.ft", cwd=place).stdout


@pytest.mark.parametrize("now", [False, True])
def test_cancelled_from_another_terminal(now: bool, place: Path) -> None:
    process = begin(place)
    done = ftc("cancel", "r.ft", *(["--now"] if now else []), cwd=place)
    assert done.returncode == 0, done.stderr
    assert not living(place) and not supervisor_of(place / "runs" / "r")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert status(place)["stages"][0]["status"] == "stopped"
    go(place)
    assert ftc("cancel", "r.ft", cwd=place).returncode == 0, "nothing runs: nothing to do"
    assert ftc("run", "r.ft", cwd=place).returncode == 0


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.slow
def test_a_supervisor_that_was_suspended_is_cancelled_too(now: bool, place: Path) -> None:
    process = begin(place)
    os.kill(supervisor_of(place / "runs" / "r"), signal.SIGSTOP)
    done = ftc("cancel", "r.ft", *(["--now"] if now else []), cwd=place)
    assert done.returncode == 0, done.stderr
    assert not living(place) and not supervisor_of(place / "runs" / "r")
    process.communicate(timeout=20)
    assert status(place)["stages"][0]["status"] == "stopped"


HANGING = """
import signal, sys, time
from pathlib import Path
from ftdsl.run.store import locked
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
with locked(Path("runs/r")):
    Path("held").touch()
    time.sleep(600)
"""


@pytest.fixture
def hanging(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries a run out and reacts to nothing; no stage has begun."""
    process = subprocess.Popen([sys.executable, "-c", HANGING], cwd=place)
    until(lambda: (place / "held").exists())
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_run_that_is_just_being_started_can_be_cancelled(
    hanging: subprocess.Popen[bytes], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first event it is known by its process alone, and one that reacts to nothing is killed with --now."""
    assert f"running as process {hanging.pid}" in ftc("status", "r.ft", cwd=place).stdout
    monkeypatch.setattr("ftdsl.run.control.PATIENCE", 0.5)
    monkeypatch.setattr("ftdsl.run.control.KILLING", 0.5)
    seen = look(place / "runs" / "r")
    assert seen and seen.supervisor == hanging.pid and not cancel(seen) and hanging.poll() is None
    assert cancel(seen, now=True)
    assert hanging.wait(timeout=5) == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_is_found_without_its_link(place: Path) -> None:
    """`last` is lost in many a copy."""
    go(place)
    assert ftc("run", "r.ft", cwd=place).returncode == 0
    (place / "runs" / "r" / "last").unlink()
    shown = ftc("status", cwd=place).stdout
    assert shown.startswith("runs/r/2") and "done" in shown, "as it is typed, from where one is"


@pytest.mark.slow
def test_a_supervisor_that_is_killed_leaves_a_stage_that_can_be_cancelled_or_joined(place: Path) -> None:
    process = begin(place)
    end(supervisor_of(place / "runs" / "r"))
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1 and "the supervisor of this run was killed" in err
    seen = look(place / "runs" / "r")
    assert seen and seen.running and list(seen.orphans) == ["a"]
    assert "without a supervisor" in ftc("status", "r.ft", cwd=place).stdout
    go(place, 4)
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert done.returncode == 0 and len(starts(place)) == 1
    (place / "trace.txt").unlink()
    (place / "go").unlink()
    (place / "r.ft").write_text(SLOW.replace("echo ok", "echo fine"), encoding="utf-8")
    second = begin(place)
    end(supervisor_of(place / "runs" / "r"))
    second.communicate(timeout=20)
    assert ftc("cancel", "r.ft", cwd=place).returncode == 0
    assert not living(place), "cancel leaves no orphan"


def test_logs_of_a_stage(place: Path) -> None:
    text = 'shell a { run = "for i in 1 2 3; do echo line $i; sleep 0.5; done" }\nshell b { after = a, run = "echo last" }\n'
    (place / "r.ft").write_text(text, encoding="utf-8")
    assert ftc("run", "r.ft", "--detach", cwd=place).returncode == 0
    followed = ftc("logs", "r.ft", "a", "-f", cwd=place)
    assert followed.stdout == "line 1\nline 2\nline 3\n"
    until(lambda: not supervisor_of(place / "runs" / "r"))
    assert ftc("logs", "r.ft", cwd=place).stdout == "last\n"
    assert "no stage `c` has run; stages: a, b" in ftc("logs", "r.ft", "c", cwd=place).stderr


@pytest.mark.slow
def test_logs_of_a_stage_that_waits_for_others(place: Path) -> None:
    text = 'shell a { run = "sleep 1.5" }\nshell b { after = a, run = "echo last" }\n'
    (place / "r.ft").write_text(text, encoding="utf-8")
    assert ftc("run", "r.ft", "--detach", cwd=place).returncode == 0
    assert ftc("logs", "r.ft", "b", "-f", cwd=place).stdout == "last\n"


def test_what_has_never_run(place: Path) -> None:
    for verb in ("status", "watch", "attach", "logs", "cancel"):
        done = ftc(verb, "r.ft", cwd=place)
        assert done.returncode == 1 and "r.ft has not run yet" in done.stderr, verb
    assert ftc("status", cwd=place).stderr == "nothing has run here\n"


@pytest.mark.slow
def test_ctrl_c_where_it_is_attached_to_stops_it(place: Path) -> None:
    process = begin(place)
    command = [sys.executable, "-m", "ftdsl.cli.main", "attach", "r.ft", "--plain"]
    attached = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert attached.stderr is not None and attached.stderr.readline().startswith("run runs/r/")
    time.sleep(0.3)
    attached.send_signal(signal.SIGINT)
    _, err = attached.communicate(timeout=30)
    assert attached.returncode == 130, err
    assert process.wait(timeout=20) == 130 and not living(place)


@pytest.mark.slow
def test_accept_takes_a_finished_stage_as_good(place: Path) -> None:
    (place / "work.py").write_text("print(1)\n", encoding="utf-8")
    text = (
        'shell a { run = "python3 inputs/work.py > a.txt", outputs = ["a.txt"] }\n'
        'shell b { after = a, run = "cp a.txt b.txt", outputs = ["b.txt"] }\n'
    )
    (place / "r.ft").write_text(text, encoding="utf-8")
    assert ftc("accept", "r.ft", "a", "--reason", "x", cwd=place).returncode == 1, "it was never done"
    first = json.loads(ftc("run", "r.ft", "--json", cwd=place).stdout)
    (place / "work.py").write_text("print(1)  # a remark\n", encoding="utf-8")
    output = json.loads(ftc("plan", "r.ft", "--json", cwd=place).stdout)
    assert [stage["state"] for stage in output["stages"]] == ["changed", "changed"]
    assert ftc("accept", "r.ft", "a", "--reason", " ", cwd=place).returncode == 2
    done = ftc("accept", "r.ft", "a", "--reason", "only a remark", cwd=place)
    assert done.returncode == 0 and done.stdout.count("is accepted") == 2
    assert ftc("status", "r.ft", cwd=place).stdout.count("accepted: only a remark") == 2
    again = json.loads(ftc("run", "r.ft", "--json", cwd=place).stdout)
    assert {stage["status"] for stage in again["stages"]} == {"cached"}
    events = (place / first["run"] / "events.jsonl").read_text(encoding="utf-8")
    assert "accepted: only a remark" in events
    (place / first["run"] / "a.txt").write_text("damaged", encoding="utf-8")
    assert "is not what it made" in ftc("accept", "r.ft", "a", "--reason", "x", cwd=place).stderr
