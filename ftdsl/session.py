"""The core's only access to files and environment: the core stays pure, and an editor can pass in unsaved text.

All reading goes through `read_bytes` or `open_regular`: regular files only, never more than a limit. Reading a pipe could
block forever and a device never end, and a path to one may come from an untrusted file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftdsl.diagnostics import Sink
from ftdsl.record import mutable

if TYPE_CHECKING:
    from io import BufferedReader

LIMIT = 16 << 20
"""Maximum size in bytes of a text that is read whole: configurations, recipes, lists of data."""


LARGE = 256 << 20
"""Maximum size in bytes of a file that ftc itself writes: events of runs with thousands of stages, reports on data."""


class NotRegularError(OSError):
    """A pipe, a socket or a device, which is not opened."""


class TooLargeError(OSError):
    """A file that is larger than the limit."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises: OSError, NotRegularError for anything else."""
    try:
        _regular(path.stat().st_mode, path)  # before opening, which alone has effects on some devices
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError:  # a null character or a lone surrogate, which no file system allows in a name
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path)) from None
    try:
        _regular(os.fstat(descriptor).st_mode, path)  # again: the path may have been replaced
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise NotRegularError(errno.EINVAL, "it is not a regular file", str(path))


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The content of a regular file. Raises: OSError, TooLargeError for more than `limit` bytes."""
    with open_regular(path) as handle:
        large = os.fstat(handle.fileno()).st_size > limit
        content = b"" if large else handle.read(limit + 1)
        if large or len(content) > limit:
            raise TooLargeError(errno.EFBIG, f"it is larger than {limit >> 20} megabytes", str(path))
    return content


def read_json(path: Path, limit: int = LIMIT) -> Any:
    """The value of a JSON file. Raises: OSError; ValueError if it is not JSON, or nested too deeply."""
    return _json(read_bytes(path, limit))


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, as a clause for a message."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not a UTF-8 text"
    return "there is no such file" if is_absent(error) else (error.strerror or str(error)).lower()


def is_absent(error: Exception) -> bool:
    """Whether the file does not exist, or cannot exist under this name."""
    return isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def _json(content: bytes | str) -> Any:
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply to be read") from None


class Files:
    """Reads from disk. unsaved: path -> text that replaces the file, such as an editor's buffers."""

    def __init__(self, unsaved: Mapping[Path, str] | None = None) -> None:
        self._unsaved = {resolved(path): text for path, text in (unsaved or {}).items()}
        self._digests: dict[Path, str] = {}
        self._heads: dict[tuple[Path, int], bytes] = {}

    def also(self, texts: Mapping[Path, str]) -> Files:
        """These files, and texts that would be written before they are read."""
        return Files({**self._unsaved, **texts})

    def text(self, path: Path, limit: int = LIMIT) -> str:
        """The text of a file, with `\\n` as line end.

        Raises: OSError if it cannot be read (also: is not a regular file, is larger than `limit` bytes),
        UnicodeDecodeError if it is not UTF-8.
        """
        unsaved = self._unsaved.get(resolved(path)) if self._unsaved else None
        if unsaved is not None:
            return unsaved
        return read_bytes(path, limit).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")

    def trouble(self, path: Path) -> str:
        """Why an existing text file cannot be read; "" if it can, or does not exist."""
        try:
            self.text(path)
        except (OSError, UnicodeDecodeError) as error:
            return "" if is_absent(error) else reason(error)
        return ""

    def json(self, path: Path, limit: int = LIMIT) -> Any:
        """The value of a JSON file. Raises: OSError; ValueError if it is not JSON, or nested too deeply."""
        return _json(self.text(path, limit))

    def sha256(self, path: Path) -> str:
        """The digest of a file, computed once, without holding the content. Raises: OSError."""
        if path not in self._digests:
            with open_regular(path) as handle:
                self._digests[path] = hashlib.file_digest(handle, "sha256").hexdigest()
        return self._digests[path]

    def head(self, path: Path, size: int) -> bytes:
        """The first `size` bytes, read once. Raises: OSError."""
        if (path, size) not in self._heads:
            with open_regular(path) as handle:
                self._heads[path, size] = handle.read(size)
        return self._heads[path, size]

    def lines(self, path: Path) -> int:
        """The number of lines that are not blank. Raises: OSError."""
        with open_regular(path) as handle:
            return sum(1 for line in handle if not line.isspace())

    def size(self, path: Path) -> int:
        """Bytes of a file. Raises: OSError."""
        with open_regular(path) as handle:
            return os.fstat(handle.fileno()).st_size

    def exists(self, path: Path) -> bool:
        return _mode(path) != 0 or self._is_unsaved(path)

    def is_file(self, path: Path) -> bool:
        return stat.S_ISREG(_mode(path)) or self._is_unsaved(path)

    def _is_unsaved(self, path: Path) -> bool:
        return bool(self._unsaved) and resolved(path) in self._unsaved

    def is_dir(self, path: Path) -> bool:
        return stat.S_ISDIR(_mode(path))

    def names(self, folder: Path) -> list[str]:
        """Names of the entries of a folder, sorted; empty if it cannot be read. Ten times as fast as `glob`."""
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 (a path for each name is what takes the time)
        except (OSError, ValueError):
            return []

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        """Matches of a glob pattern below `folder`, sorted; empty for an invalid pattern."""
        try:
            return sorted(folder.glob(pattern))
        except (OSError, ValueError, NotImplementedError, RuntimeError):
            return []


def _mode(path: Path) -> int:
    """The mode of the file; 0 if it cannot be accessed (missing, a loop of links, a name that is too long)."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def resolved(path: Path) -> Path:
    """A path without links and dots; an invalid path (a loop, a null character) only made absolute."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return path.absolute()


@mutable
class Session:
    """The context of one call of the compiler: files, environment, and the sink it reports to.

    pins: package -> version to use whatever is installed (from a lock); engine_python: from the command line;
    elsewhere: the data is on another machine, so missing files are not reported.
    """

    files: Files = field(default_factory=Files)
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    sink: Sink = field(default_factory=Sink)
    pins: Mapping[str, str] = field(default_factory=dict)
    engine_python: str = ""
    elsewhere: bool = False
