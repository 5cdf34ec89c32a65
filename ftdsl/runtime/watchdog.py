"""Detects a stalled training: when a rank hangs, all others wait for it in a collective forever, silently.

Each rank watches itself from a thread. Standard library only.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

STALLED = 6
"""Exit status of a process that ended itself for want of progress."""
FIRST = 2.0
"""Seconds that other ranks leave to the first, which writes down why."""


class Watchdog:
    """A context manager that watches while inside. seconds: without a beat until it acts (0: never); stops: whether the process
    exits then; report: receives the step and the seconds; rank: of this process.
    """

    def __init__(self, seconds: float, *, stops: bool, report: Callable[[int, float], None], rank: int = 0) -> None:
        self.seconds, self.stops, self.report, self.rank = seconds, stops, report, rank
        self.step, self.last = 0, time.monotonic()
        self._reported = False
        self._ended = threading.Event()

    def beat(self, step: int) -> None:
        """Something was computed."""
        self.step, self.last, self._reported = step, time.monotonic(), False

    def __enter__(self) -> None:
        self._ended = threading.Event()
        self.beat(self.step)
        if self.seconds:
            threading.Thread(target=self._watch, args=(self._ended,), name="ftdsl-watchdog", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(min(1.0, self.seconds / 4)):
            silent = time.monotonic() - self.last
            if silent < self.seconds or self._reported:
                continue
            self._reported = True
            if self.stops and self.rank:
                time.sleep(FIRST)
            self.report(self.step, silent)
            if self.stops:
                sys.stderr.flush()
                os._exit(STALLED)
