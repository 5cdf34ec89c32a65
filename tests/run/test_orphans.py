"""A stage outlives who started it: the next `ftc run` joins it or refuses, and never starts it twice. In the foreground here: a
supervisor that is killed is the same."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdsl.run.launchers.local import read_holder
from ftdsl.run.store import load
from ftdsl.runtime.events import STARTED_AS, processes_of
from tests.conftest import ftc

SLOW = '''
shell a {
  run = """
    echo start $$ >> inputs/trace.txt
    for i in $(seq 900); do echo $i $$ >> inputs/trace.txt; [ -e inputs/go ] && break; sleep 0.1; done
    echo ok > a.txt
  """
  outputs = ["a.txt"]
}
shell b { after = a, run = "cat a.txt > b.txt", outputs = ["b.txt"] }
'''


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "r.ft").write_text(SLOW, encoding="utf-8")
    yield tmp_path
    for pid in living(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def living(place: Path) -> list[int]:
    """Processes of stages below a folder, whatever group or session they are in."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{STARTED_AS}=".encode() in (folder / "environ").read_bytes()
            if marked and (folder / "cwd").resolve().is_relative_to(place.resolve()):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def end(pid: int) -> None:
    """Kill one process: 0, for none, would be everyone of this group, the tests' own processes too."""
    assert pid > 1
    os.kill(pid, signal.SIGKILL)


def begin(place: Path, *arguments: str) -> subprocess.Popen[str]:
    """`ftc run` in a session of its own, as a terminal gives it one, with its first stage at work."""
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain", "--foreground", *arguments]
    process = subprocess.Popen(
        command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: (place / "trace.txt").exists())
    return process


def go(place: Path, seconds: float = 0.0) -> None:
    """Let the stage end, at once or a little later."""
    if seconds:
        threading.Timer(seconds, go, (place,)).start()
    else:
        (place / "go").touch()


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def starts(place: Path) -> list[str]:
    return [line for line in (place / "trace.txt").read_text(encoding="utf-8").splitlines() if line.startswith("start")]


def statuses(document: str) -> dict[str, str]:
    return {stage["stage"]: stage["status"] for stage in json.loads(document)["stages"]}


@pytest.mark.slow
def test_a_stage_whose_ftc_was_killed_is_joined(place: Path) -> None:
    begin(place).kill()
    assert living(place), "it runs on"
    go(place, 4)
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "10-a: runs already" in done.stderr
    assert statuses(done.stdout) == {"a": "done", "b": "done"}
    lines = (place / "trace.txt").read_text(encoding="utf-8").splitlines()
    assert len(starts(place)) == 1 and [line.split()[0] for line in lines[1:]] == [str(n) for n in range(1, len(lines))]
    assert not living(place)


@pytest.mark.parametrize(("last", "status", "text"), [
    ("echo ok > a.txt", "done", ""), ("exit 7", "failed", "status 7"),
    ("""echo '{"event": "gate", "holds": false, "message": "loss = 9, wanted at most 1"}' >> 10-a/metrics.jsonl; exit 3""",
     "refused", "loss = 9, wanted at most 1"),
])  # fmt: skip
@pytest.mark.slow
def test_status_shows_how_one_ended_that_nobody_watched(last: str, status: str, text: str, place: Path) -> None:
    """By what it left: the gate's comparison, or its exit status."""
    recipe = SLOW.replace("echo ok > a.txt", last.replace("{", "{{").replace("}", "}}"))
    (place / "r.ft").write_text(recipe, encoding="utf-8")
    begin(place).kill()
    go(place)
    until(lambda: not living(place))
    stages = json.loads(ftc("status", "r.ft", "--json", cwd=place).stdout)["runs"][0]["stages"]
    assert stages[0]["status"] == status
    assert text in stages[0]["message"]
    assert text in ftc("status", "r.ft", cwd=place).stdout


@pytest.mark.slow
def test_one_that_ended_meanwhile_is_taken_as_it_ended(place: Path) -> None:
    begin(place).kill()
    go(place)
    until(lambda: not living(place))
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert (done.returncode, statuses(done.stdout)) == (0, {"a": "done", "b": "done"}), done.stderr
    assert len(starts(place)) == 1


GATE = """echo '{"event": "gate", "holds": false, "message": "loss = 9, wanted at most 1"}' >> 10-a/metrics.jsonl; exit 3"""


@pytest.mark.parametrize(("last", "code", "status", "times"), [(GATE, 3, "refused", 1), ("exit 3", 1, "failed", 2)])
def test_one_that_was_refused_meanwhile_is_not_evaluated_again(
    last: str, code: int, status: str, times: int, place: Path
) -> None:
    """Its scores are there. The same status without a gate is a failure, which is tried again."""
    recipe = SLOW.replace("echo ok > a.txt", last.replace("{", "{{").replace("}", "}}"))
    (place / "r.ft").write_text(recipe, encoding="utf-8")
    begin(place).kill()
    go(place)
    until(lambda: not living(place))
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert (done.returncode, statuses(done.stdout)) == (code, {"a": status, "b": "skipped"}), done.stderr
    assert len(starts(place)) == times
    message = json.loads(done.stdout)["stages"][0]["message"]
    assert ("loss = 9, wanted at most 1" in message) is (status == "refused")


ATTEMPTS = """
shell a { run = "n=$(cat inputs/n.txt 2>/dev/null || echo 0); echo $((n + 1)) > inputs/n.txt; if [ $n = 0 ]; then
  echo 'OSError: [Errno 28] No space left on device'; exit 1; fi; echo another end; exit 1" }
"""


def test_another_start_is_marked_in_the_log(place: Path) -> None:
    """What the first start printed is neither the cause of the second's end, nor shown as its end."""
    (place / "r.ft").write_text(
        ATTEMPTS.replace('run = "', 'run = """').replace('exit 1" }', 'exit 1""" }'), encoding="utf-8"
    )
    first = ftc("run", "r.ft", cwd=place)
    assert "the disk is full" in first.stderr
    second = ftc("run", "r.ft", cwd=place)
    assert (
        "the disk is full" not in second.stderr
        and "No space left" not in second.stderr
        and "another end" in second.stderr
    )
    log = ftc("logs", "r.ft", "a", cwd=place).stdout
    assert re.search(r"No space left.*\n\n== started again: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\nanother end", log)
    diagnosed = ftc("diagnose", "r.ft", cwd=place).stdout
    assert "the disk is full" not in diagnosed


@pytest.mark.slow
def test_one_that_an_earlier_run_has_done_too_is_joined(place: Path) -> None:
    """The folder of a living stage is its own: no link to an earlier result takes its place."""
    go(place)
    assert ftc("run", "r.ft", cwd=place).returncode == 0
    for name in ("go", "trace.txt"):
        (place / name).unlink()
    begin(place, "--fresh").kill()
    folder = (place / "runs" / "r" / "last").resolve() / "10-a"
    go(place, 4)
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert statuses(done.stdout)["a"] == "done" and len(starts(place)) == 1
    assert not folder.is_symlink() and (folder / ".exit").read_text(encoding="utf-8") == "0\n"
    assert not living(place)


@pytest.mark.parametrize("change", ["recipe", "fresh", "set"])
@pytest.mark.slow
def test_one_that_is_not_what_would_run_is_refused(change: str, place: Path) -> None:
    begin(place).kill()
    (pid, *_) = read_holder(place / "runs" / "r" / "last" / "10-a") or (0,)
    if change == "set":
        go(place, 4)
    if change == "recipe":
        (place / "r.ft").write_text(SLOW.replace("echo ok", "echo other"), encoding="utf-8")
    done = ftc(
        "run",
        "r.ft",
        *(["--fresh"] if change == "fresh" else []),
        *(["--only", "a"] if change == "set" else []),
        cwd=place,
    )
    if change == "set":
        assert done.returncode == 0 and len(starts(place)) == 1, "the same stage, and less of the recipe"
        return
    assert done.returncode == 1
    assert f"`a` still runs (process {pid}, in runs/r/" in done.stderr
    assert len(starts(place)) == 1 and living(place), "nothing was started, nothing stopped"


@pytest.mark.slow
def test_where_its_leader_was_killed_too_the_rest_is_ended_before_it_starts_anew(place: Path) -> None:
    begin(place).kill()
    (pid, *_) = read_holder(place / "runs" / "r" / "last" / "10-a") or (0,)
    end(pid)
    assert living(place), "its script runs on"
    go(place, 5)
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    numbers = [line.split()[1] for line in (place / "trace.txt").read_text(encoding="utf-8").splitlines()]
    second = numbers.index(starts(place)[1].split()[1])
    assert set(numbers[:second]).isdisjoint(numbers[second:]), "never both at once"
    assert not living(place)


def test_a_number_that_is_another_process_now_is_left_alone(place: Path) -> None:
    """After a reboot, or when numbers were used again, a lock names a process that has nothing to do with it."""
    begin(place).kill()
    go(place)
    until(lambda: not living(place))
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    lock = place / "runs" / "r" / "last" / "10-a" / ".lock"
    _, start, boot, id = lock.read_text(encoding="utf-8").split()
    (place / "runs" / "r" / "last" / "10-a" / ".exit").unlink()
    for words in (f"{other.pid} {start} {boot} {id}", f"{other.pid} {start} other-boot {id}", "garbage", ""):
        lock.write_text(words, encoding="utf-8")
        assert ftc("run", "r.ft", "--only", "a", "--force", "a", cwd=place).returncode == 0
        assert other.poll() is None
    other.kill()
    other.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_no_signal_leaves_an_orphan(number: signal.Signals, place: Path) -> None:
    process = begin(place)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert not living(place)
    run = load((place / "runs" / "r" / "last").resolve())
    assert run and run.jobs["a"].status == "stopped"


@pytest.mark.slow
def test_a_child_in_a_session_of_its_own_is_stopped_too(place: Path) -> None:
    text = SLOW.replace("echo start", "setsid sleep 300 & echo start")
    (place / "r.ft").write_text(text, encoding="utf-8")
    process = begin(place)
    until(lambda: len(living(place)) >= 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    until(lambda: not living(place), 5)


def test_a_stage_killed_from_outside_has_failed_and_runs_again(place: Path) -> None:
    process = begin(place)
    (_, _, _, id) = read_holder(place / "runs" / "r" / "last" / "10-a") or (0, "", "", "")
    for member in [*processes_of(id)]:
        os.kill(member, signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "signal 9" in err
    go(place)
    assert ftc("run", "r.ft", cwd=place).returncode == 0


@pytest.mark.slow
def test_plan_sees_a_stage_that_runs(place: Path) -> None:
    process = begin(place)
    shown = ftc("plan", "r.ft", cwd=place)
    assert "a  shell: running" in shown.stdout, shown.stdout
    process.kill()
    shown = ftc("plan", "r.ft", "--json", cwd=place)
    states = {stage["stage"]: stage["state"] for stage in json.loads(shown.stdout)["stages"]}
    assert states["a"] == "running", "also without the ftc that started it"


@pytest.mark.slow
def test_the_clock_may_go_back(place: Path) -> None:
    """A run folder dated ahead is not taken for newer than the one that was stopped last."""
    process = begin(place)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    go(place)
    last = (place / "runs" / "r" / "last").resolve()
    ahead = last.with_name("20991231-000000")
    ahead.mkdir()
    (ahead / "events.jsonl").write_bytes((last / "events.jsonl").read_bytes())
    done = ftc("run", "r.ft", "--json", cwd=place)
    assert json.loads(done.stdout)["run"].endswith(last.name)
