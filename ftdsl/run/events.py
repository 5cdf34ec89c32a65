"""A run's own events, `runs/…/events.jsonl`: appended and synced; only complete lines are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ftdsl.observe.metrics import Tail, read_result
from ftdsl.observe.progress import RunProgress, Status
from ftdsl.run.launchers.log import last_lines, progress_line
from ftdsl.runtime import events
from ftdsl.storage import open_to_append

NAME = "events.jsonl"


class EventLog:
    """Writes the events of one run. One process at a time does (the run's lock); any number may read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def append(self, *several: events.Event) -> None:
        """Write events and wait until they are on disk: all of them, or none. Raises: OSError, with the path.

        A half line that a power cut left is ended first, so that it cannot take the next with it.
        """
        new = not self.path.exists()
        lines = b"".join(map(events.line, several))
        try:
            file = open_to_append(self.path, readable=True)
            size = os.fstat(file).st_size
            broken = size and os.pread(file, 1, size - 1) != b"\n"
            events.append_lines(file, b"\n" + lines if broken else lines, sync=True)
            if new:
                sync_folder(self.path.parent)
        except OSError as error:
            if error.filename:
                raise
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk. Raises: OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(folder: Path) -> list[events.Event]:
    """The events of a run folder; none where there are none."""
    return events.read(folder / NAME)


class Follower:
    """A run's progress seen from any process: its own events and those of its stages, as they are written."""

    def __init__(self, folder: Path) -> None:
        self.progress = RunProgress(folder.parent.name, folder.name, folder)
        self._run = Tail(folder / NAME)
        self._stages: dict[str, Tail] = {}

    def update(self) -> list[tuple[str, events.Event]]:
        """Read and apply new events; gives them, each with the key of its stage ("" for the run's own)."""
        new: list[tuple[str, events.Event]] = []
        for event in self._run.read():
            if event["event"] == "run":
                self._stages.clear()
            self.progress.apply(event)
            new.append(("", event))
        for stage in self.progress.stages:
            if stage.started is not None and stage.status is not Status.CACHED:
                path = self.progress.folder / stage.folder / events.METRICS
                tail = self._stages.setdefault(stage.key, Tail(path))
                for event in tail.read():
                    stage.apply(event)
                    new.append((stage.key, event))
            if stage.status is Status.RUNNING:
                stage.log_line = progress_line(last_lines(self.progress.folder / stage.folder / "log.txt"))
            if stage.status.ok and stage.result is None:
                stage.result = read_result(self.progress.folder / stage.folder)
        return new


def states(run_events: list[events.Event]) -> Iterator[tuple[str, events.Event]]:
    """What is known of every job: its events `stage` joined, the newer fields winning, by key."""
    joined: dict[str, events.Event] = {}
    for event in run_events:
        if event["event"] == "stage":
            joined[event["stage"]] = joined.get(event["stage"], {}) | event
    yield from joined.items()
