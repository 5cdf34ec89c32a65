"""What files of rows are handed on as: a `File` gives `Block`s of JSON lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 4 << 20
"""Bytes of rows that are handed on together: large enough to make hand-overs cheap, small enough for many processes."""
PACKED = (".gz", ".bz2", ".xz", ".zst")


class CannotReadError(Exception):
    """A source that cannot be read: the message is a sentence."""


@dataclass
class Block:
    """Rows as JSON, one a line. `numbers` are their places in the file (None: `first` and on, a line each); `read` is how
    many bytes of the file are read so far; `errors` are places that are no rows, with the reason.
    """

    lines: bytes
    first: int = 1
    numbers: list[int] | None = None
    read: int = 0
    errors: tuple[tuple[int, str], ...] = ()

    def places(self) -> Iterator[tuple[int, bytes]]:
        """(place, line) of every line that is not blank."""
        lines = self.lines.split(b"\n")
        for place, line in zip(self.numbers or range(self.first, self.first + len(lines)), lines, strict=False):
            if line and not line.isspace():
                yield place, line


@dataclass
class File:
    """A file of a source, or a hub's data set. `by` says how places in it are counted: `line` or `row`."""

    name: str
    size: int
    blocks: Callable[[], Iterator[Block]]
    by: str = "line"

    def where(self, place: int) -> str:
        """`inputs/data/a.jsonl:17`, `a.parquet: row 17`."""
        return f"{self.name}:{place}" if self.by == "line" else f"{self.name}: row {place}"


def unpacked(name: str) -> str:
    """A file's name without the ending of its compression."""
    stem, ending = os.path.splitext(name)
    return stem if ending in PACKED else name
