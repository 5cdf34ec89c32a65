"""Run folders: `runs/<name>/<id>/` with the build's files, one folder a stage, and state.json."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from ftdsl.recipe.rules.smoke import MARK
from ftdsl.storage import open_to_append, write_file, write_files, write_link
from ftdsl.targets.write import link_inputs

SCHEMA = 1


class BusyError(Exception):
    """Another process runs this recipe."""


@dataclass
class JobState:
    """What is known of a job of a run: `key` is what its content hashes to, and `facts` what that was made of; times in seconds
    since the epoch; `folder` is what its stage folder is called in this run."""

    status: str
    key: str
    started: float | None = None
    ended: float | None = None
    message: str = ""
    cached_from: str = ""
    folder: str = ""
    facts: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Run:
    """A run folder and its state. `smoke`: nothing in it is a result."""

    folder: Path
    jobs: dict[str, JobState] = field(default_factory=dict)
    finished: bool = False
    smoke: bool = False

    @property
    def id(self) -> str:
        return self.folder.name

    def save(self) -> None:
        """state.json, beside and then renamed."""
        state = {
            "schema": SCHEMA,
            "finished": self.finished,
            **({"smoke": True} if self.smoke else {}),
            "jobs": {key: asdict(job) for key, job in self.jobs.items()},
        }
        write_file(self.folder / "state.json", (json.dumps(state, indent=1) + "\n").encode())


def load(folder: Path) -> Run | None:
    """A run as it was left; None when it cannot be read."""
    try:
        state = json.loads((folder / "state.json").read_bytes())
        jobs = {key: JobState(**job) for key, job in state["jobs"].items()}
        return Run(folder, jobs, bool(state["finished"]), bool(state.get("smoke")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def runs_of(home: Path) -> list[Run]:
    """Runs of a recipe, newest first."""
    if not home.is_dir():
        return []
    folders = sorted((p for p in home.iterdir() if p.is_dir() and not p.is_symlink()), reverse=True)
    return [run for folder in folders if (run := load(folder))]


def mark_smoke(folder: Path) -> None:
    """A stage of a smoke run says so, in its folder and in its result.json, wherever somebody carries them."""
    write_file(folder / MARK, b"Made by `ftc run --smoke`: toy models, few rows, a few steps, to try a recipe.\n")
    try:
        result = json.loads((folder / "result.json").read_bytes())
        write_file(folder / "result.json", (json.dumps({**result, "smoke": True}, indent=2) + "\n").encode())
    except (OSError, ValueError, TypeError):
        return


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


def lay_out(folder: Path, files: Mapping[str, bytes], recipe_folder: Path, stages: set[str]) -> None:
    """The build's files for these stage folders (others are left as they are), and the link to the recipe's folder."""
    first = {name: name.partition("/")[0] for name in files}
    wanted = [name for name in files if "/" not in name or first[name] in ("runtime", "smoke", *stages)]
    write_files(folder, {name: files[name] for name in wanted})
    link_inputs(folder, recipe_folder)


def clear_stage(folder: Path) -> None:
    """Forget what a stage left. A link to another run's is only unlinked."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def link(run: Path, name: str, other: Path) -> None:
    """Use what another run has under this name; what is there through another link already stays."""
    place = run / name
    if place.exists() and place.resolve() == other.resolve():
        return
    clear_stage(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(other.resolve(), place.parent.resolve()))


def point_last(home: Path, folder: Path) -> None:
    """`last` -> the newest run."""
    write_link(home, "last", folder.name)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """One `ftc run` of a recipe at a time. Raises: BusyError."""
    home.mkdir(parents=True, exist_ok=True)
    with os.fdopen(open_to_append(home / ".lock"), "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = (home / ".lock").read_text(encoding="utf-8", errors="replace").strip()
            raise BusyError(f"process {holder or '?'} runs `{home.name}` already") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def result_there(run: Path, result: str, stage: str) -> bool:
    """Whether what a done stage made is still there."""
    return (run / result).exists() and (run / stage / "result.json").exists()
