"""The only door of the core to files and environment: the core stays pure, and an editor can feed unsaved text."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import field
from io import BufferedReader
from pathlib import Path

from ftdsl.diagnostics import Sink
from ftdsl.record import mutable

MAX_TEXT = 2**24
"""Bytes of a text that is read whole (16 MiB): what is larger is data, or no file at all."""

STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""What a shell hands over instead of a file (`ftc check <(…)`): read although it is none, because a person named it."""


class Files:
    """Reads from disk; `unsaved` (path -> text) wins, which is how an editor's buffers come in.

    Only regular files are read, and no more of them than the caller expects: a device or a pipe never ends.
    """

    def __init__(self, unsaved: Mapping[Path, str] | None = None) -> None:
        self._unsaved = {os.path.realpath(path): text for path, text in (unsaved or {}).items()}
        self._digests: dict[Path, str] = {}
        self._heads: dict[tuple[Path, int], bytes] = {}

    def text(self, path: Path, limit: int = MAX_TEXT) -> str:
        """The text of a file of at most `limit` bytes.

        Raises: OSError when it cannot be read (EFBIG when it is larger), UnicodeDecodeError when it is not UTF-8.
        """
        if "\0" in str(path):  # which no file system has, and Python raises something else for
            raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path))
        if self._is_unsaved(path):
            return self._unsaved[os.path.realpath(path)]
        with self._open(path) as handle:
            content = handle.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it is larger than {limit / 2**20:g} MiB", str(path))
        return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")

    def sha256(self, path: Path) -> str:
        """The digest of a file, read once and never held. Raises: OSError."""
        if path not in self._digests:
            with self._open(path) as handle:
                self._digests[path] = hashlib.file_digest(handle, "sha256").hexdigest()
        return self._digests[path]

    def head(self, path: Path, size: int) -> bytes:
        """The first `size` bytes, read once. Raises: OSError."""
        if (path, size) not in self._heads:
            with self._open(path) as handle:
                self._heads[path, size] = handle.read(size)
        return self._heads[path, size]

    def lines(self, path: Path) -> int:
        """How many lines of a file hold anything, read once and never held. Raises: OSError."""
        with self._open(path) as handle:
            return sum(1 for line in handle if not line.isspace())

    def size(self, path: Path) -> int:
        """Bytes of a file. Raises: OSError."""
        return path.stat().st_size

    def exists(self, path: Path) -> bool:
        return _holds(path, os.path.exists) or self._is_unsaved(path)

    def is_file(self, path: Path) -> bool:
        return _holds(path, os.path.isfile) or self._is_unsaved(path)

    def is_dir(self, path: Path) -> bool:
        return _holds(path, os.path.isdir)

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        """Matches of a glob pattern below `folder`, sorted; none of a pattern that no path can match."""
        try:
            return sorted(folder.glob(pattern))
        except (OSError, ValueError, NotImplementedError, IndexError):
            return []

    def _open(self, path: Path) -> BufferedReader:
        """Raises: OSError, also for what is no regular file."""
        streamed = str(path).startswith(STREAMS)
        mode = path.stat().st_mode  # looked at first: a pipe blocks when it is opened
        if not (streamed or stat.S_ISREG(mode)):
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return path.open("rb")

    def _is_unsaved(self, path: Path) -> bool:
        return bool(self._unsaved) and "\0" not in str(path) and os.path.realpath(path) in self._unsaved


def _holds(path: Path, test: Callable[[Path], bool]) -> bool:
    """False too for what cannot be a path: too long, a null character, a circle of links."""
    try:
        return test(path)
    except (OSError, ValueError):
        return False


@mutable
class Session:
    """What one call of the compiler may see: files, environment, and the sink it reports to.

    pins: package -> version that counts whatever is installed (a lock's); engine_python: named on the command line;
    elsewhere: the data lies on another machine, so that what is missing here is not said.
    """

    files: Files = field(default_factory=Files)
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    sink: Sink = field(default_factory=Sink)
    pins: Mapping[str, str] = field(default_factory=dict)
    engine_python: str = ""
    elsewhere: bool = False
