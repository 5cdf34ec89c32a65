"""A queue that trials share: what several of them start within a second is handed over at once, as an array where it can be."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from ftdsl.run.launchers.launcher import ArrayLauncher, Ending, Handle, LaunchError, QueueLauncher, Task
from ftdsl.run.launchers.registry import launcher_for

WINDOW = 1.0
"""Seconds that the first waits for others."""


class ArrayQueue(QueueLauncher, ArrayLauncher, Protocol):
    """What `Gathered` needs of a launcher."""


@dataclass
class _Batch:
    tasks: list[Task] = field(default_factory=list)
    handles: list[Handle | LaunchError] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)


class Gathered:
    """One launcher for the executors of several trials, each in a thread of its own."""

    def __init__(self, inner: ArrayQueue, window: float = WINDOW) -> None:
        self.name, self._inner, self._window = inner.name, inner, window
        self._lock = threading.RLock()
        self._open: _Batch | None = None

    def submit_together(self, tasks: Sequence[Task]) -> list[Handle | LaunchError]:
        if not tasks:
            return []
        with self._lock:
            first = self._open is None
            batch = self._open = self._open or _Batch()
            start = len(batch.tasks)
            batch.tasks += tasks
        if first:
            time.sleep(self._window)
            with self._lock:
                self._open = None
                batch.handles = self._submitted(batch.tasks)
            batch.done.set()
        batch.done.wait()
        return batch.handles[start : start + len(tasks)]

    def _submitted(self, tasks: list[Task]) -> list[Handle | LaunchError]:
        try:
            return self._inner.submit_across(tasks)
        except OSError as error:  # the run folder cannot be written
            return [LaunchError(f"it cannot be started: {(error.strerror or str(error)).lower()}") for _ in tasks]

    def submit(self, task: Task) -> Handle:
        """Raises: LaunchError."""
        (handle,) = self.submit_together([task])
        if isinstance(handle, LaunchError):
            raise handle
        return handle

    def find(self, task: Task) -> Handle | None:
        return self._inner.find(task)

    def poll(self, handle: Handle) -> int | None:
        with self._lock:
            return self._inner.poll(handle)

    def cancel(self, handle: Handle, *, now: bool = False) -> None:
        with self._lock:
            self._inner.cancel(handle, now=now)

    def tail(self, handle: Handle, lines: int = 12) -> list[str]:
        return self._inner.tail(handle, lines)

    def describe(self, handle: Handle) -> str:
        with self._lock:
            return self._inner.describe(handle)

    def waits(self, handle: Handle) -> bool:
        with self._lock:
            return self._inner.waits(handle)

    def ending(self, handle: Handle) -> Ending | None:
        with self._lock:
            return self._inner.ending(handle)


def gathered(target: str) -> Gathered | None:
    """The queue of a target for several trials; None where its launcher takes no arrays."""
    made = launcher_for(target)
    both = isinstance(made, QueueLauncher) and isinstance(made, ArrayLauncher)
    return Gathered(cast(ArrayQueue, made)) if both else None
