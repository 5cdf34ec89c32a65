"""The launchers by the target whose jobs they start: this machine's, Slurm's, those of other packages (entry points), those that
a program registers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from ftdsl.run.launchers.launcher import Handle, Launcher, QueueLauncher, Task
from ftdsl.run.launchers.local import LocalLauncher, left, living
from ftdsl.run.launchers.slurm import SlurmLauncher

ENTRY_POINTS = "ftdsl.launchers"
"""The group of entry points for launchers of other packages: each a callable that gives one, named after its target."""

_registered: dict[str, Callable[[], Launcher]] = {"bash": LocalLauncher, SlurmLauncher.name: SlurmLauncher}


def register(target: str, make: Callable[[], Launcher]) -> None:
    """Add a launcher for the life of the process."""
    _registered[target] = make


def forget(target: str) -> None:
    """Undo `register`."""
    _registered.pop(target, None)


def launcher_for(target: str) -> Launcher | None:
    """What starts the jobs of a target; None where `ftc run` cannot."""
    make = _registered.get(target) or _entry_points().get(target)
    return make() if make else None


def names() -> list[str]:
    """Targets that `ftc run` can start."""
    return sorted({*_registered, *_entry_points()})


def living_start(run: Path, stage: str) -> tuple[Launcher, Handle] | None:
    """The start of a stage that lives, whoever made it, and the launcher it belongs to; None where none does. Touches nothing.

    While a scheduler does not answer, a stage that it has counts as living.
    """
    task = Task(run, stage, {})
    if living(task.folder):
        local = LocalLauncher()
        handle = local.find(task)
        return (local, handle) if handle else None
    for launcher in _queues():
        handle = launcher.find(task)
        if handle is not None and launcher.poll(handle) is None:
            return launcher, handle
    return None


def recorded_start(run: Path, stage: str, id: str) -> tuple[Launcher, Handle] | None:
    """The start of this id, whoever made it, whether it lives or not; None where none is on record. Touches nothing."""
    task = Task(run, stage, {})
    for launcher in (LocalLauncher(), *_queues()):
        handle = launcher.find(task)
        if handle is not None and handle.id == id:
            return launcher, handle
    return None


def exit_status(launcher: Launcher, handle: Handle) -> int | None:
    """How a start that does not live ended; None where nothing is known of that. Touches nothing."""
    return left(handle.log.parent) if isinstance(launcher, LocalLauncher) else launcher.poll(handle)


def who_runs(run: Path, stage: str) -> int | str:
    """The process or the job of a stage that lives; 0 where none does."""
    start = living_start(run, stage)
    if start is None:
        return 0
    who: int | str = (start[1].facts or {}).get("pid", start[1].id)
    return who


@cache
def _queues() -> list[QueueLauncher]:
    """One of each for the life of the process, since a queue is asked once for all its jobs."""
    made = (launcher_for(target) for target in names())
    return [launcher for launcher in made if isinstance(launcher, QueueLauncher)]


@cache
def _entry_points() -> dict[str, Callable[[], Launcher]]:
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}
