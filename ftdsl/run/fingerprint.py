"""Digests of files: read once, then cached by size, times and inode until one of these changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ftdsl.session import LARGE, open_regular, read_json
from ftdsl.storage import write_file

ABSENT = "absent"
RACY = 2.0
"""Seconds: a file changed so recently may change again without a new time."""
MOST = 20_000
"""Digests that are kept."""
READERS = 4

Made = dict[str, list[Any]]
"""What a stage made: path, seen from the run folder -> size, time in nanoseconds (as `stat_of`), inode, SHA-256."""


class Digests:
    """SHA-256 of files. place: where known ones are kept between calls of `ftc`; None: nowhere."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._new = False
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                content = read_json(path, LARGE)
                self._known = content if isinstance(content, dict) else {}

    def file(self, path: Path) -> str:
        """The digest of a file; `absent` of one that cannot be read."""
        try:
            facts = stat_of(path)
            known = self._known.get(str(path.absolute()))
            if known is not None and known[:3] == facts:
                return str(known[3])
            with open_regular(path) as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            if stat_of(path) == facts and time.time() - facts[1] / 1e9 > RACY:
                self._known[str(path.absolute())] = [*facts, digest]
                self._new = True
        except (OSError, IndexError, TypeError):
            return ABSENT
        return digest

    def files(self, paths: Iterable[Path]) -> list[str]:
        """Digests of several files, in parallel."""
        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(self.file, paths))

    def save(self) -> None:
        """Keep what is known for the next call; where that cannot be, the next call reads again."""
        if self._path is not None and self._new:
            newest = dict(list(self._known.items())[-MOST:])
            with contextlib.suppress(OSError):
                write_file(self._path, json.dumps(newest).encode())


def kept_digests() -> Digests:
    """Those of this user, kept in the cache folder of the system."""
    return Digests(user_cache_path("ftdsl") / "digests.json")


def stat_of(path: Path) -> list[int]:
    """Size, time of the last change in nanoseconds, inode. Raises: OSError.

    The time is that of the inode (ctime), which no program can set back; that of the content (mtime) can be.
    """
    facts = path.stat()
    return [facts.st_size, facts.st_ctime_ns, facts.st_ino]


def tree(path: Path) -> list[Path]:
    """The files below a folder that are part of what it holds, sorted: no checkpoints, no hidden files, no logs of trackers; a
    file is itself.
    """
    if path.is_file():
        return [path]
    paths: list[Path] = []
    for home, folders, names in os.walk(path):
        folders[:] = sorted(
            name for name in folders if not name.startswith((".", "checkpoint-")) and name not in _NOISE
        )
        paths += [Path(home) / name for name in sorted(names) if not name.startswith(".")]
    return paths


_NOISE = ("runs", "wandb", "__pycache__")


def made_by(run: Path, paths: Iterable[str], digests: Digests) -> Made:
    """The files at paths of a run folder, with their digests. Unreadable files are left out."""
    files = [(path, file) for path in paths for file in tree(run / path)]
    made: Made = {}
    for (path, file), digest in zip(files, digests.files([file for _, file in files]), strict=True):
        name = path if file == run / path else f"{path}/{file.relative_to(run / path).as_posix()}"
        with contextlib.suppress(OSError):
            made[name] = [*stat_of(file), digest]
    return made


def damage(run: Path, made: Mapping[str, Any], digests: Digests, *, thorough: bool = False) -> str:
    """What is wrong with what a stage made, as a sentence; "" when all of it is there and is what it made.

    A file whose size, time and inode are those it was left with is taken for unchanged; thorough: all are read.
    """
    digests = Digests() if thorough else digests  # what is known by its time is not asked
    for name, facts in made.items():
        path = run / name
        try:
            size, when, inode, digest = facts
            now = stat_of(path)
        except (OSError, ValueError, TypeError):
            return f"{name} is not there any more"
        if now[0] != size:
            return f"{name} is not what it made ({now[0]:,} bytes of {size:,})"
        if (thorough or now != [size, when, inode]) and digests.file(path) != digest:
            return f"{name} is not what it made"
    return ""
