"""Offsets in a text, and positions of LSP: line and column from 0, the column in units of the encoding that was negotiated."""

from __future__ import annotations

import re
from bisect import bisect_right

from lsprotocol.types import Position, PositionEncodingKind, Range

_LINE_END = re.compile(r"\r\n|\r")
_UNIT = {PositionEncodingKind.Utf8: ("utf-8", 1), PositionEncodingKind.Utf16: ("utf-16-le", 2)}


def normalised(text: str) -> str:
    """The text with `\\n` as the line end, which changes no position. LSP has three line ends, and no other ones."""
    return _LINE_END.sub("\n", text) if "\r" in text else text


class Lines:
    """The lines of a text with `\\n` as its line end. encoding: what columns count."""

    def __init__(self, text: str, encoding: PositionEncodingKind | str = PositionEncodingKind.Utf16) -> None:
        self.text = text
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._unit = None if text.isascii() else _UNIT.get(PositionEncodingKind(encoding))

    def position(self, offset: int) -> Position:
        """The position of an offset; one beyond the text is the end."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset) - 1
        before = self.text[self.starts[line] : offset]
        return Position(line, len(before) if self._unit is None else _length(before, self._unit))

    def offset(self, position: Position) -> int:
        """The offset of a position; one beyond a line is its end, one beyond the text is the end (LSP 3.17, Position)."""
        if position.line >= len(self.starts):
            return len(self.text)
        start = self.starts[position.line]
        end = self.starts[position.line + 1] - 1 if position.line + 1 < len(self.starts) else len(self.text)
        line = self.text[start:end]
        if self._unit is None or line.isascii():
            return start + min(position.character, len(line))
        units = 0
        for column, character in enumerate(line):
            if units >= position.character:
                return start + column
            units += _length(character, self._unit)
        return end

    def range(self, start: int, end: int) -> Range:
        return Range(self.position(start), self.position(end))


def _length(text: str, unit: tuple[str, int]) -> int:
    codec, size = unit
    return len(text.encode(codec, "surrogatepass")) // size
