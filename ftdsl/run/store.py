"""Run folders: `runs/<name>/<id>/` with the build's files, one folder a stage, and events.jsonl."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ftdsl.observe.progress import Status
from ftdsl.recipe.rules.smoke import MARK
from ftdsl.run.events import EventLog
from ftdsl.run.events import read as read_events
from ftdsl.run.fingerprint import Made
from ftdsl.run.launchers.local import identity
from ftdsl.runtime.events import Event, made, read_result, save_result
from ftdsl.storage import open_to_append, write_file, write_files, write_link
from ftdsl.targets.write import link_inputs


class BusyError(Exception):
    """Another process runs this recipe."""


@dataclass
class JobState:
    """What is known of a job of a run: `key` is what its content hashes to, and `facts` what that was made of; times in seconds
    since the epoch; `folder` is what its stage folder is called in this run; `handle`: its launcher's id of its last start, on
    these `cards`; `made`: the files of its result, by which it is known again.
    """

    status: str = ""
    key: str = ""
    started: float | None = None
    ended: float | None = None
    message: str = ""
    cached_from: str = ""
    folder: str = ""
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    handle: str = ""
    cards: list[str] = field(default_factory=list)
    made: Made = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Its result was made, here or by an earlier run."""
        return self.status in (Status.DONE, Status.CACHED)


@dataclass
class Run:
    """A run folder and what its events say. `current`: keys of the jobs of its last start; `smoke`: nothing in it is a result;
    `unwritten`: events that are not on disk yet, since it is full or cannot be written.
    """

    folder: Path
    jobs: dict[str, JobState] = field(default_factory=dict)
    current: tuple[str, ...] = ()
    smoke: bool = False
    unwritten: list[Event] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether all it was started for is done."""
        return bool(self.current) and all(key in self.jobs and self.jobs[key].done for key in self.current)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in an event of its events.jsonl."""
        if event["event"] == "run":
            stages = event.get("stages")
            described = stages if isinstance(stages, list) else []
            self.current = tuple(str(stage["key"]) for stage in described)
            self.smoke = event.get("smoke", False)
        elif event["event"] == "stage":
            state = self.jobs.setdefault(event["stage"], JobState())
            for name in JobState.__dataclass_fields__:
                if name in event:
                    setattr(state, name, event[name])

    def write(self, *several: Event) -> None:
        """Events to disk, and taken in. Raises: OSError."""
        EventLog(self.folder).append(*several)
        for event in several:
            self.apply(event)

    def record(self, kind: str, /, **fields: Any) -> Event:
        """One event of now, written; the event. Raises: OSError."""
        event = self.keep(kind, **fields)
        self.write_kept()
        return event

    def keep(self, kind: str, /, **fields: Any) -> Event:
        """One event of now, taken in and to be written; the event."""
        event = made(kind, **fields)
        self.unwritten.append(event)
        self.apply(event)
        return event

    def write_kept(self) -> None:
        """All events that are not on disk yet. Raises: OSError."""
        if self.unwritten:
            EventLog(self.folder).append(*self.unwritten)
            self.unwritten.clear()

    def since_start(self, key: str) -> list[Event]:
        """The run's events of a stage since it was last started."""
        own = [event for event in read_events(self.folder) if event.get("stage") == key]
        starts = [at for at, event in enumerate(own) if event["event"] == "stage" and event.get("handle")]
        return own[starts[-1] :] if starts else own


def load(folder: Path) -> Run | None:
    """A run as it was left; None for a folder without events."""
    run, events = Run(folder), read_events(folder)
    try:
        for event in events:
            run.apply(event)
    except (KeyError, TypeError):  # lines that are events in shape alone
        return None
    return run if events else None


def runs_beside(home: Path) -> list[Run]:
    """Finished and unfinished runs of the other recipes of a project, newest first; of smoke runs none."""
    if not home.parent.is_dir():
        return []
    homes = sorted(other for other in home.parent.iterdir() if other != home and other.is_dir())
    return [run for other in homes if not other.name.endswith(".smoke") for run in runs_of(other) if not run.smoke]


def runs_of(home: Path) -> list[Run]:
    """Runs of a recipe, newest first."""
    if not home.is_dir():
        return []
    last = (home / "last").resolve().name  # whatever time its name has
    folders = sorted((p for p in home.iterdir() if p.is_dir() and not p.is_symlink()), reverse=True)
    folders.sort(key=lambda folder: folder.name != last)
    return [run for folder in folders if (run := load(folder))]


def mark_smoke(folder: Path) -> None:
    """A stage of a smoke run is marked, in its folder and in its result.json, wherever somebody carries them."""
    write_file(folder / MARK, b"Made by `ftc run --smoke`: toy models, few rows, a few steps, to try a recipe.\n")
    result = read_result(folder)
    if result is not None and not result.get("smoke"):
        save_result(folder, {**result, "smoke": True})


def new_folder(home: Path, now: datetime) -> Path:
    """A folder named after the time: `20261124-104512`, with a number when that is taken."""
    name = now.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        folder = home / f"{name}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{home}/{name}")


def write_build(folder: Path, files: Mapping[str, bytes], recipe_folder: Path, stages: set[str]) -> None:
    """The build's files for these stage folders (others are left as they are), and the link to the recipe's folder."""
    first = {name: name.partition("/")[0] for name in files}
    others = {first[name] for name in files if name.endswith("/launch.sh")} - stages
    wanted = [name for name in files if first[name] not in others]
    write_files(folder, {name: files[name] for name in wanted})
    link_inputs(folder, recipe_folder)


def clear_stage(folder: Path) -> None:
    """Delete what a stage left. A link to another run's is only unlinked."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def set_aside(folder: Path) -> Path:
    """Rename a folder that is in the way; gives its new path."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.before-{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside


def link(run: Path, name: str, other: Path) -> None:
    """Link to another run's folder of this name; an equal link stays."""
    path = run / name
    if path.exists() and path.resolve() == other.resolve():
        return
    clear_stage(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(other.resolve(), path.parent.resolve()))


def point_last(home: Path, folder: Path) -> None:
    """`last` -> the newest run."""
    write_link(home, "last", folder.name)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One `ftc run` of a recipe at a time. Raises: BusyError."""
    home.mkdir(parents=True, exist_ok=True)
    os.close(open_to_append(home / ".lock"))  # a link in its place is refused
    lock, holder = FileLock(home / ".lock", timeout=0), home / ".pid"
    try:
        with lock:
            write_file(holder, f"{' '.join(map(str, identity(os.getpid())))}\n".encode())
            try:
                yield
            finally:
                with suppress(OSError):
                    holder.unlink(missing_ok=True)  # a host may live on when its run has ended
    except Timeout:
        known = holder_of(home)
        number = known[0] if known else "?"
        raise BusyError(
            f"process {number} runs `{home.name}` already; type: ftc watch, ftc attach or ftc cancel"
        ) from None


def holder_of(home: Path) -> tuple[int, str, str] | None:
    """The process that last carried out a run there: its number, when it began, which boot; None where none is on record."""
    try:
        pid, start, boot = (home / ".pid").read_text(encoding="ascii").split()
        return int(pid), start, boot
    except (OSError, ValueError):
        return None
