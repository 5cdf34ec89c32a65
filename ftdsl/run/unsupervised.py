"""How stages ended that no `ftc` watched: by what they left, and what their launcher knows. Starts and writes nothing."""

from __future__ import annotations

from pathlib import Path

from ftdsl.observe.metrics import read_result
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.run import faults
from ftdsl.run.launchers import registry
from ftdsl.run.launchers.launcher import Handle, Launcher, QueueLauncher
from ftdsl.run.store import load
from ftdsl.runtime import events

GATE_REFUSED = 3
"""Exit status of a stage whose gate does not hold (runtime/gate.py)."""


def refusals_of(attempt: list[events.Event]) -> list[str]:
    """The comparisons of gates that do not hold, of the events of one start."""
    return [
        str(event.get("message") or event.get("metric", ""))
        for event in attempt
        if event["event"] == "gate" and not event.get("holds")
    ]


def refusals_in(folder: Path) -> list[str]:
    """The same, of the last start of the stage in a folder."""
    return refusals_of(events.last_attempt(events.read(folder / events.METRICS)))


def take_in(progress: RunProgress, living: set[str]) -> None:
    """Set status and message of those stages that the run's events call running and that have ended. living: keys of the others.

    What the end of another stage stopped in a queue is skipped.
    """
    run = load(progress.folder)
    if run is None:
        return
    never_begun: list[tuple[StageProgress, str]] = []
    for stage in progress.having(Status.RUNNING):
        state = run.jobs.get(stage.key)
        start = registry.recorded_start(progress.folder, stage.folder, state.handle) if state else None
        if stage.key in living or start is None:
            continue
        launcher, handle = start
        status = registry.exit_status(launcher, handle)
        attempt = events.last_attempt(events.read(progress.folder / stage.folder / events.METRICS))
        if status is not None:
            why = _end(stage, progress.folder, launcher, handle, status, attempt)
            if not _began(attempt):
                never_begun.append((stage, why))
    ended_badly = progress.having(Status.FAILED, Status.REFUSED)
    for stage, why in never_begun:
        others = [other.key for other in ended_badly if other.key != stage.key]
        if others:
            stage.status, stage.message = Status.SKIPPED, f"{why}: {', '.join(others)} ended before"


def _began(attempt: list[events.Event]) -> bool:
    """Whether the stage's script ran: the executor marks a start, and everything else is the script's."""
    return len(attempt) > 1


def _end(
    stage: StageProgress, run: Path, launcher: Launcher, handle: Handle, status: int, attempt: list[events.Event]
) -> str:
    """Apply how a stage ended; a sentence about it."""
    folder = run / stage.folder
    refusals = refusals_of(attempt)
    stage.ended = max((event["time"] for event in attempt if "time" in event), default=None)
    if status == 0:
        stage.status, stage.result = Status.DONE, read_result(folder)
        return ""
    if status == GATE_REFUSED and refusals:
        stage.status, stage.message = Status.REFUSED, "; ".join(refusals)
        return stage.message
    ending = launcher.ending(handle) if isinstance(launcher, QueueLauncher) else None
    last = next((event for event in reversed(attempt) if event["event"] == "end"), {})
    message = ending.message if ending else faults.read(last, folder / "log.txt", status, handle.log_start).message
    stage.status, stage.message = Status.FAILED, message
    return message
