"""What is known of all rows: columns on disk, a few bytes a row, seen as arrays. Gone when the stage ends."""

from __future__ import annotations

import os
import shutil
from types import TracebackType
from typing import IO, Any

import numpy as np

from .scanning import Scanned

Array = np.ndarray[Any, Any]
COLUMNS: dict[str, Any] = {
    "position": np.uint64, "why": np.uint8, "digest": np.uint64, "chars": np.uint32, "tokens": np.uint32, "signs": np.uint8,
}  # fmt: skip


class Table:
    """Columns in a folder: written block by block, then read as arrays of one element a row (`signs`: of 256)."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, ".rows")
        shutil.rmtree(self._folder, ignore_errors=True)
        os.makedirs(self._folder)
        self._files: dict[str, IO[bytes]] = {}
        self._arrays: dict[str, Array] = {}
        self.rows = 0
        self.bands = 0

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._arrays.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, scanned: Scanned) -> None:
        """The rows of a block, after those there are."""
        for name in COLUMNS:
            if (column := getattr(scanned, name)).size:
                self._write(name, column)
        if scanned.bands.size:
            self.bands = scanned.bands.shape[1]
            for at in range(self.bands):
                self._write(f"band{at}", np.ascontiguousarray(scanned.bands[:, at]))
        self.rows += len(scanned.position)

    def _write(self, name: str, column: Array) -> None:
        if name not in self._files:
            self._files[name] = open(os.path.join(self._folder, name), "wb")  # noqa: SIM115
        self._files[name].write(column.tobytes())

    def column(self, name: str) -> Array:
        """All rows of a column; empty where nothing was measured. What is written into it counts."""
        if name not in self._arrays:
            file = self._files.get(name)
            kind = COLUMNS.get(name, np.uint32)
            if file is None:
                return np.zeros(0, kind)
            file.flush()
            self._arrays[name] = np.memmap(file.name, kind, "r+")
        return self._arrays[name]

    def signs(self) -> Array:
        """[rows, 256]."""
        return self.column("signs").reshape(self.rows, -1)
