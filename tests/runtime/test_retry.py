"""A launcher that broke is started anew; what a person must mend is not tried twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import ftdsl.runtime.retry as retry
from tests.conftest import until

COUNT = 'import pathlib, sys; p = pathlib.Path("starts"); n = int(p.read_text()) + 1 if p.exists() else 1; p.write_text(str(n)); '


def run(place: Path, times: int, then: str) -> tuple[int, int]:
    """Exit status, and how often the command was started."""
    command = [sys.executable, retry.__file__, str(times), "--stage", "s", "--", sys.executable, "-c", COUNT + then]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, int((place / "starts").read_text())


def test_started_until_it_ends_well_or_often_enough(tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    assert run(tmp_path / "once", 2, "sys.exit(n < 2)") == (0, 2)
    assert run(tmp_path, 1, "sys.exit(7)") == (7, 2)


def test_a_death_by_signal_is_a_status(tmp_path: Path) -> None:
    assert run(tmp_path, 0, "import os; os.kill(os.getpid(), 9)") == (137, 1)


def test_what_a_person_must_mend_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    log = tmp_path / "s" / "metrics.jsonl"
    log.write_text('{"event": "end", "ok": false, "message": "loss is nan at step 3"}\n', encoding="utf-8")
    assert run(tmp_path, 3, "sys.exit(1)") == (1, 1)
    log.write_text('{"event": "end", "ok": false, "error": ["OSError: a card fell off the bus"]}\n', encoding="utf-8")
    assert run(tmp_path, 1, "sys.exit(1)") == (1, 3)


def test_asked_to_stop_it_stops(tmp_path: Path) -> None:
    wait = COUNT + "import time; time.sleep(60)"
    command = [sys.executable, retry.__file__, "3", "--stage", "s", "--", sys.executable, "-c", wait]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    starts = tmp_path / "starts"
    until(lambda: starts.exists() and starts.read_text() == "1", "it starts")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert starts.read_text() == "1"
