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
from ftdsl.run.launchers.local import DYING, alive
from ftdsl.run.project import OWNER, study_folder
from ftdsl.run.store import holder_of
from ftdsl.run.unsupervised import take_in

PATIENCE = 60.0
"""Seconds that a cancelled run may take to end; its stages are killed before that."""
KILLING = 15.0
"""Seconds that a run may take to end whose stages are killed; then its supervisor is killed too."""


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
    """The newest run in a folder of runs; None where there is none. Of one that is just being started only the supervisor is
    known.
    """
    folder = _newest(home)
    if folder is None:
        study, supervisor = study_folder(home), supervisor_of(home)
        if study.is_dir():
            return Seen(home, RunProgress(home.name, study.name, study), supervisor, {})
        return Seen(home, RunProgress(home.name, "", home), supervisor, {}) if supervisor else None
    follower = Follower(folder)
    follower.update()
    supervisor = supervisor_of(home)
    running = [] if supervisor else follower.progress.having(Status.RUNNING)
    orphans = {
        stage.key: who for stage in running if (who := registry.who_runs(follower.progress.folder, stage.folder))
    }
    if not supervisor:
        take_in(follower.progress, {*orphans})
    return Seen(home, follower.progress, supervisor, orphans)


def _newest(home: Path) -> Path | None:
    """The newest run with events: that which `last` leads to, else (the link may be lost in a copy) the last by its name."""
    last = home / "last"
    if (last / NAME).exists():
        return home / last.readlink().name if last.is_symlink() else last
    return max((path.parent for path in home.glob(f"[0-9]*/{NAME}")), default=None)


def homes_below(root: Path) -> list[Path]:
    """Folders of runs of a project."""
    return sorted(owner.parent for owner in (root / "runs").glob(f"*/{OWNER}"))


def cancel(seen: Seen, *, now: bool = False) -> bool:
    """Stop a run: its supervisor asks the stages to end, which may save; stages without one are asked directly. Waits until
    nothing of it lives; False when something still does. now: kill the stages, and a supervisor that does not react.
    """
    if seen.supervisor:
        for _ in range(2 if now else 1):
            _signal(seen.supervisor, signal.SIGTERM)
            _signal(seen.supervisor, signal.SIGCONT)  # one that was suspended would never read it
            time.sleep(0.3)
    folder = seen.progress.folder
    starts = [registry.living_start(folder, seen.progress.stage(key).folder) for key in seen.orphans]
    for start in starts:
        if start:
            start[0].cancel(start[1], now=now)
    deadline = time.monotonic() + (KILLING if now else PATIENCE)
    while time.monotonic() < deadline:
        left = [start for start in starts if start and start[0].poll(start[1]) is None]
        if not left and not supervisor_of(seen.home):
            return True
        time.sleep(0.1)
    supervisor = supervisor_of(seen.home)
    if not now or not supervisor:
        return False
    _signal(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + DYING
    while supervisor_of(seen.home) == supervisor and time.monotonic() < deadline:
        time.sleep(0.1)
    rest = look(seen.home)
    return rest is None or not rest.running or (not rest.supervisor and cancel(rest, now=True))


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
