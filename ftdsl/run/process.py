"""One job as a process group of its own, with its log; it can be asked to stop, and made to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ftdsl.storage import open_to_append

GRACE = 20.0
"""Seconds between the question and the order to stop: enough to save a checkpoint's last file."""


class Process:
    """`bash <stage>/launch.sh` in the run folder."""

    def __init__(self, run: Path, stage: str, env: Mapping[str, str]) -> None:
        self.log = run / stage / "log.txt"
        self._handle = os.fdopen(open_to_append(self.log), "ab")
        # A group of its own: Ctrl-C in the terminal reaches ftc alone, which then stops its children in order.
        self._process = subprocess.Popen(
            ["bash", f"{stage}/launch.sh"],
            cwd=run,
            stdin=subprocess.DEVNULL,
            stdout=self._handle,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
        )
        self._asked: float | None = None

    def poll(self) -> int | None:
        """Exit status, or None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._handle.close()
            _signal(self._process.pid, signal.SIGKILL)  # what it left behind in its group
        elif self._asked is not None and time.monotonic() - self._asked > GRACE:
            _signal(self._process.pid, signal.SIGKILL)
        return status

    def stop(self, *, now: bool = False) -> None:
        """Ask the whole group to stop; after GRACE seconds, or at once with `now`, it is killed."""
        if self._asked is None:
            self._asked = time.monotonic()
            _signal(self._process.pid, signal.SIGTERM)
        if now:
            _signal(self._process.pid, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def last_words(log: Path, count: int = 12) -> list[str]:
    """The last lines of a log that say something; a line drawn over itself counts as its last state."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - 65536))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in lines if line.strip()][-count:]
