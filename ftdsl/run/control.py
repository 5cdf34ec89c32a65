"""Inspects and cancels runs from any terminal: their progress and supervisors."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ftdsl.observe.progress import RunProgress, Status
from ftdsl.run.events import NAME, Follower
from ftdsl.run.launchers import registry
from ftdsl.run.launchers.local import alive
from ftdsl.run.project import OWNER, study_folder
from ftdsl.run.store import holder_of
from ftdsl.run.unsupervised import take_in

PATIENCE = 60.0
"""Seconds that a cancelled run may take to end; its stages are killed before that."""


@dataclass(frozen=True)
class Seen:
    """A run as it is now. supervisor: the process that carries it out, 0 for none; orphans: stages that run without one, by key,
    with the process or job of each.
    """

    home: Path
    progress: RunProgress
    supervisor: int
    orphans: dict[str, int | str]

    @property
    def running(self) -> bool:
        return bool(self.supervisor or self.orphans)


def supervisor_of(home: Path) -> int:
    """The process that carries out a recipe's run; 0 for none."""
    holder = holder_of(home)
    return holder[0] if holder and alive(*holder) else 0


def look(home: Path) -> Seen | None:
    """The newest run in a folder of runs; None where there is none."""
    folder = home / "last"
    if not (folder / NAME).exists():
        study = study_folder(home)
        return (
            Seen(home, RunProgress(home.name, study.name, study), supervisor_of(home), {}) if study.is_dir() else None
        )
    follower = Follower(home / folder.readlink().name if folder.is_symlink() else folder)
    follower.update()
    supervisor = supervisor_of(home)
    running = [] if supervisor else follower.progress.having(Status.RUNNING)
    orphans = {
        stage.key: who for stage in running if (who := registry.who_runs(follower.progress.folder, stage.folder))
    }
    if not supervisor:
        take_in(follower.progress, {*orphans})
    return Seen(home, follower.progress, supervisor, orphans)


def homes_below(root: Path) -> list[Path]:
    """Folders of runs of a project."""
    return sorted(owner.parent for owner in (root / "runs").glob(f"*/{OWNER}"))


def cancel(seen: Seen, *, now: bool = False) -> bool:
    """Stop a run: its supervisor asks the stages to end, which may save; stages without one are asked directly. Waits until
    nothing of it lives; False when something still does.
    """
    if seen.supervisor:
        for _ in range(2 if now else 1):
            with contextlib.suppress(ProcessLookupError):
                os.kill(seen.supervisor, signal.SIGTERM)
            time.sleep(0.3)
    folder = seen.progress.folder
    starts = [registry.living_start(folder, seen.progress.stage(key).folder) for key in seen.orphans]
    for start in starts:
        if start:
            start[0].cancel(start[1], now=now)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        left = [start for start in starts if start and start[0].poll(start[1]) is None]
        if not left and not supervisor_of(seen.home):
            return True
        time.sleep(0.1)
    return False
