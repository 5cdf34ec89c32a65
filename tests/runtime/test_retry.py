"""A launcher that broke is started anew; what a person must mend is not tried twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ftdsl.runtime.retry as retry
from ftdsl.runtime import events
from tests.conftest import until

COUNT = 'import pathlib, sys; p = pathlib.Path("starts"); n = int(p.read_text()) + 1 if p.exists() else 1; p.write_text(str(n)); '


def run(place: Path, times: int, then: str) -> tuple[int, int]:
    """Exit status, and how often the command was started."""
    command = [sys.executable, retry.__file__, str(times), "--stage", "s", "--", sys.executable, "-c", COUNT + then]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, int((place / "starts").read_text())


@pytest.mark.slow
def test_started_until_it_ends_well_or_often_enough(tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    assert run(tmp_path / "once", 2, "sys.exit(n < 2)") == (0, 2)
    assert run(tmp_path, 1, "sys.exit(7)") == (7, 2)


def test_a_death_by_signal_is_a_status(tmp_path: Path) -> None:
    assert run(tmp_path, 0, "import os; os.kill(os.getpid(), 9)") == (137, 1)


def ends(**fields: object) -> str:
    """A command that leaves an event at its end, and fails."""
    line = json.dumps({"event": "end", "ok": False, **fields})
    return f"open('s/metrics.jsonl', 'a').write({line + chr(10)!r}); sys.exit(1)"


STARTS = [
    ({"message": "loss is nan at step 3"}, 1),
    ({"error": ["ValueError: no such template"]}, 1),
    ({"error": ["RuntimeError: CUDA out of memory"]}, 1),
    ({"error": ["RuntimeError: Connection closed by peer [127.0.0.1]:1234"]}, 4),
    ({"error": ["OSError: [Errno 5] Input/output error"]}, 4),
    ({"error": ["OSError: a card fell off the bus"]}, 2),
]
"""What a start says at its end; how often a stage is started that may be started four times."""


@pytest.mark.parametrize(("fields", "starts"), STARTS, ids=[str(*fields.values()) for fields, _ in STARTS])
@pytest.mark.slow
def test_each_class_of_failures_has_its_budget(fields: dict[str, object], starts: int, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    assert run(tmp_path, 3, ends(**fields)) == (1, starts)
    ledger = [event for event in events.read(tmp_path / "s" / "metrics.jsonl") if event["event"] == "guard"]
    assert [event["action"] for event in ledger] == ["restarted"] * (starts - 1)


@pytest.mark.slow
def test_killed_without_a_word_it_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    step = json.dumps({"event": "step", "step": 7})
    kill = f"open('s/metrics.jsonl', 'a').write({step + chr(10)!r}); import os; os.kill(os.getpid(), 9)"
    assert run(tmp_path, 2, kill) == (137, 3)
    ledger = [event for event in events.read(tmp_path / "s" / "metrics.jsonl") if event["event"] == "guard"]
    assert [(event["step"], event["message"]) for event in ledger] == [
        (7, "it was ended by signal 9; start 2 of 3"), (7, "it was ended by signal 9; start 3 of 3"),
    ]  # fmt: skip


def test_asked_to_stop_it_stops(tmp_path: Path) -> None:
    wait = COUNT + "import time; time.sleep(60)"
    command = [sys.executable, retry.__file__, "3", "--stage", "s", "--", sys.executable, "-c", wait]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    starts = tmp_path / "starts"
    until(lambda: starts.exists() and starts.read_text() == "1", "it starts")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert starts.read_text() == "1"
