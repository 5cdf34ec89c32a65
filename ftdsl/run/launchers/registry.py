"""The launchers by the target whose jobs they start: this machine's, Slurm's, those of other packages (entry points), those that
a program registers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ftdsl.run.launchers.launcher import Handle, Launcher, Task
from ftdsl.run.launchers.local import LocalLauncher
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


def find(task: Task, launchers: list[Launcher]) -> tuple[Launcher, Handle] | None:
    """The start of a stage that is on record, and whose it is."""
    found = ((launcher, launcher.find(task)) for launcher in launchers)
    return next(((launcher, handle) for launcher, handle in found if handle is not None), None)


@cache
def _entry_points() -> dict[str, Callable[[], Launcher]]:
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}
