"""Files of rows: a `File` gives `Block`s of JSON lines."""

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
    """The position of a row that shares its line with others: both numbers, in one."""
    return row << 32 | line


@dataclass
class Block:
    """Rows as JSON, one a line. `numbers` are their positions in the file (None: `first` and on, a line each); `read` is how
    many bytes of the file are read so far; `errors` are lines that are no rows: how many rows of the block precede it, its
    position, why.
    """

    lines: bytes
    first: int = 1
    numbers: list[int] | None = None
    read: int = 0
    errors: tuple[tuple[int, int, str], ...] = ()

    def numbered(self) -> Iterator[tuple[int, bytes]]:
        """(position, line) of every line that is not blank."""
        lines = self.lines.split(b"\n")
        for position, line in zip(self.numbers or range(self.first, self.first + len(lines)), lines, strict=False):
            if line and not line.isspace():
                yield position, line


@dataclass
class File:
    """A file of a source, or a hub's data set. `by`: the unit of positions, `line` or `row`."""

    name: str
    size: int
    blocks: Callable[[], Iterator[Block]]
    by: str = "line"

    def where(self, position: int) -> str:
        """`inputs/data/a.jsonl:17`, `a.json:1: row 17`, `a.parquet: row 17`."""
        numbers = self.numbers(position)
        line = f":{numbers['line']}" if "line" in numbers else ""
        return f"{self.name}{line}" + (f": row {numbers['row']}" if "row" in numbers else "")

    def numbers(self, position: int) -> dict[str, int]:
        """The line of a position, its row, or both."""
        line, row = position & 0xFFFFFFFF, position >> 32
        if self.by == "row":
            return {"row": position}
        return {"line": line, "row": row} if row else {"line": line}


def unpacked(name: str) -> str:
    """A file's name without the ending of its compression."""
    stem, ending = os.path.splitext(name)
    return stem if ending in PACKED else name
