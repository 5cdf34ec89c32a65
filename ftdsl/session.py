"""The only door of the core to files and environment: the core stays pure, and an editor can feed unsaved text."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from ftdsl.diagnostics import Sink
from ftdsl.record import mutable


class Files:
    """Reads from disk; `unsaved` (path -> text) wins, which is how an editor's buffers come in."""

    def __init__(self, unsaved: Mapping[Path, str] | None = None) -> None:
        self._unsaved = {path.resolve(): text for path, text in (unsaved or {}).items()}
        self._digests: dict[Path, str] = {}
        self._heads: dict[tuple[Path, int], bytes] = {}

    def text(self, path: Path) -> str:
        """The text of a file.

        Raises: OSError when it cannot be read, UnicodeDecodeError when it is not UTF-8.
        """
        if "\0" in str(path):  # which no file system has, and Python raises something else for
            raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path))
        unsaved = self._unsaved.get(path.resolve())
        return path.read_text(encoding="utf-8") if unsaved is None else unsaved

    def sha256(self, path: Path) -> str:
        """The digest of a file, read once and never held. Raises: OSError."""
        if path not in self._digests:
            with path.open("rb") as handle:
                self._digests[path] = hashlib.file_digest(handle, "sha256").hexdigest()
        return self._digests[path]

    def head(self, path: Path, size: int) -> bytes:
        """The first `size` bytes, read once. Raises: OSError."""
        if (path, size) not in self._heads:
            with path.open("rb") as handle:
                self._heads[path, size] = handle.read(size)
        return self._heads[path, size]

    def lines(self, path: Path) -> int:
        """How many lines of a file hold anything, read once and never held. Raises: OSError."""
        with path.open("rb") as handle:
            return sum(1 for line in handle if not line.isspace())

    def size(self, path: Path) -> int:
        """Bytes of a file. Raises: OSError."""
        return path.stat().st_size

    def exists(self, path: Path) -> bool:
        return path.exists() or self._is_unsaved(path)

    def is_file(self, path: Path) -> bool:
        return path.is_file() or self._is_unsaved(path)

    def _is_unsaved(self, path: Path) -> bool:
        return bool(self._unsaved) and "\0" not in str(path) and path.resolve() in self._unsaved

    def is_dir(self, path: Path) -> bool:
        return path.is_dir()

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        """Matches of a glob pattern below `folder`, sorted."""
        return sorted(folder.glob(pattern))


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
