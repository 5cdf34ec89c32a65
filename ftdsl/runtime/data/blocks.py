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


def on_line(line: int, row: int) -> int:
    """The place of a row that shares its line with others: both numbers, in one."""
    return row << 32 | line


@dataclass
class Block:
    """Rows as JSON, one a line. `numbers` are their places in the file (None: `first` and on, a line each); `read` is how
    many bytes of the file are read so far; `errors` are what is no row: how many rows of the block come before, its place, why.
    """

    lines: bytes
    first: int = 1
    numbers: list[int] | None = None
    read: int = 0
    errors: tuple[tuple[int, int, str], ...] = ()

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
        """`inputs/data/a.jsonl:17`, `a.json:1: row 17`, `a.parquet: row 17`."""
        found = self.numbers(place)
        line = f":{found['line']}" if "line" in found else ""
        return f"{self.name}{line}" + (f": row {found['row']}" if "row" in found else "")

    def numbers(self, place: int) -> dict[str, int]:
        """The line of a place, its row, or both."""
        line, row = place & 0xFFFFFFFF, place >> 32
        if self.by == "row":
            return {"row": place}
        return {"line": line, "row": row} if row else {"line": line}


def unpacked(name: str) -> str:
    """A file's name without the ending of its compression."""
    stem, ending = os.path.splitext(name)
    return stem if ending in PACKED else name
