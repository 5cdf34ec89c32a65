"""What can be removed from a project's runs, and how much that frees.

Kept are: the newest run of each recipe and variant; a run that another one links to, whose results lie at `to`, or that a recipe
names; what runs; studies; runs of `run.sh`; and of every run whose trainings were guarded its events and results, which are the
ledger.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ftdsl.observe.progress import Status
from ftdsl.run.control import homes_below, supervisor_of
from ftdsl.run.events import NAME
from ftdsl.run.events import read as read_events
from ftdsl.run.launchers.local import LOCK
from ftdsl.run.launchers.registry import who_runs
from ftdsl.run.launchers.slurm import RECORD
from ftdsl.run.store import Run, load, locked
from ftdsl.runtime.events import METRICS, RESULT, read_result

ID = re.compile(r"\d{8}-\d{6}(-\d+)?")
MARKER = ".ftdsl.json"
"""In a folder that a stage wrote outside of its run (`runtime/checkpoints.py`)."""
LEDGER = (NAME, METRICS, RESULT, "guard.json", "log.txt", "manifest.json", "stage.json")


@dataclass(frozen=True)
class Removable:
    """A file or folder that nothing needs. home: the folder of runs it belongs to; why: nothing needs it, as a phrase;
    size: bytes on disk; changed: when it was written last, seconds since the epoch.
    """

    path: Path
    home: Path
    why: str
    size: int
    changed: float


def removable(root: Path, recipes: Mapping[str, str]) -> tuple[list[Removable], list[str]]:
    """What can go, largest first; and why folders of runs were not looked at. recipes: the texts of the project's, by path."""
    homes, notes = [], []
    for home in homes_below(root):
        if home.is_symlink():
            continue
        if _runs_now(home):
            notes.append(f"{home.as_posix()} is left as it is: it runs")
            continue
        homes.append(home)
    needed = _needed(homes_below(root), recipes)
    things = [thing for home in homes for thing in _of_home(home, needed)]
    return sorted(things, key=lambda thing: (-thing.size, thing.path)), notes


def remove(things: list[Removable]) -> Iterator[tuple[Removable, str]]:
    """Remove them, home by home, each locked meanwhile; each with why it could not be, "" when it is gone.

    Raises: BusyError when a run has begun since.
    """
    for home in dict.fromkeys(thing.home for thing in things):
        with locked(home):
            for thing in (thing for thing in things if thing.home == home):
                try:
                    shutil.rmtree(thing.path) if thing.path.is_dir() else thing.path.unlink()
                    yield thing, ""
                except OSError as error:
                    yield thing, (error.strerror or str(error)).lower()


def _runs_now(home: Path) -> bool:
    """Whether a supervisor or a stage of any of its runs lives."""
    stages = {path.parent for name in (LOCK, RECORD) for path in home.rglob(name) if path.parent != home}
    return bool(supervisor_of(home)) or any(who_runs(stage.parent, stage.name) for stage in sorted(stages))


def _ids(home: Path) -> list[Path]:
    return sorted(
        path for path in home.iterdir() if ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )


def _needed(homes: list[Path], recipes: Mapping[str, str]) -> set[Path]:
    """Run folders that have to stay, resolved: those that are kept by themselves, and those they link to."""
    text = "\n".join(recipes.values())
    todo = []
    for home in homes:
        last = (home / "last").resolve()
        for folder in _ids(home) if not home.name.endswith(".smoke") else ():
            if folder.resolve() == last or f"{home.name}/{folder.name}" in text or _is_outside(folder):
                todo.append(folder.resolve())
        others = [path for path in home.iterdir() if path.is_dir() and not path.is_symlink() and path not in _ids(home)]
        todo += [path.resolve() for path in others]
    needed: set[Path] = set()
    runs = {folder.resolve() for home in homes for folder in _ids(home)}
    while todo:
        folder = todo.pop()
        if folder not in needed:
            needed.add(folder)
            todo += [run for target in _links(folder) for run in (target, *target.parents) if run in runs]
    return needed


def _links(folder: Path) -> Iterator[Path]:
    for home, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(home, name)
            if path.is_symlink() and name != "inputs":
                yield path.resolve()


def _is_outside(folder: Path) -> bool:
    """Whether a result of a run is still at a destination outside of it, where it would no longer be known."""
    run = load(folder)
    paths = [name for state in run.jobs.values() if state.done for name in state.made] if run else []
    return any(path.startswith(("/", "../", "inputs/")) and (folder / path).exists() for path in paths)


def _of_home(home: Path, needed: set[Path]) -> Iterator[Removable]:
    for folder in _ids(home):
        run = load(folder)
        if folder.resolve() not in needed:
            yield from _whole(
                home, folder, "a smoke run" if home.name.endswith(".smoke") else "a newer run replaced it"
            )
        else:
            yield from _parts(home, folder)
        yield from _destinations(home, folder, run)


def _whole(home: Path, folder: Path, why: str) -> Iterator[Removable]:
    """A run that nothing needs; where a guard acted in it, without its ledger."""
    if not any(event["event"] == "guard" for event in read_events(folder)):
        yield _thing(home, folder, why)
        return
    for stage in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        kept = [name for name in LEDGER if (stage / name).exists()]
        parts = sorted(stage.iterdir()) if kept else [stage]
        yield from (_thing(home, path, f"{why}; its ledger stays") for path in parts if path.name not in LEDGER)


def _parts(home: Path, folder: Path) -> Iterator[Removable]:
    """Of a run that stays: what was set aside in it."""
    for pattern, why in (
        ("*.before-*", "set aside when its stage changed"),
        ("*/*.before-*", "an earlier result, set aside"),
        ("*/broken-checkpoint-*", "a damaged checkpoint"),
        ("*/*/broken-checkpoint-*", "a damaged checkpoint"),
    ):
        for path in sorted(folder.glob(pattern)):
            if _is_folder_of(folder, path) and ".before-" not in path.parent.name:
                yield _thing(home, path, why)


def _destinations(home: Path, folder: Path, run: Run | None) -> Iterator[Removable]:
    """Beside the destinations of a run: earlier results that a stage made and that were set aside."""
    for state in run.jobs.values() if run else ():
        result = (
            str((read_result(folder / state.folder) or {}).get("path", "")) if state.status != Status.RUNNING else ""
        )
        if result and result.startswith(("/", "../", "inputs/")):
            destination = Path(os.path.normpath((folder / result).parent.resolve() / Path(result).name))
            for path in sorted(destination.parent.glob(f"{destination.name}.before-*")):
                if path.is_dir() and not path.is_symlink() and (path / MARKER).is_file():
                    yield _thing(home, Path(os.path.relpath(path)), "an earlier result at its destination, set aside")


def _is_folder_of(folder: Path, path: Path) -> bool:
    """Whether a folder lies in a run itself, and not in one that it links to."""
    return path.is_dir() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve())


def _thing(home: Path, path: Path, why: str) -> Removable:
    size, changed = 0, 0.0
    seen: set[tuple[int, int]] = set()
    folder = [(str(path.parent), list[str](), [path.name])]
    for here, folders, files in os.walk(path) if path.is_dir() else folder:
        for name in (*folders, *files):
            facts = Path(here, name).lstat()
            changed = max(changed, facts.st_mtime)
            if (facts.st_dev, facts.st_ino) not in seen:
                seen.add((facts.st_dev, facts.st_ino))
                size += facts.st_blocks * 512
    return Removable(path, home, why, size, changed or path.lstat().st_mtime)
