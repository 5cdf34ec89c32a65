"""Source texts and spans. Imports nothing of ftdsl."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate

from ftdsl.record import frozen


@frozen
class Source:
    """A text with its displayed name (a path as given, or `--set`)."""

    name: str
    text: str

    @cached_property
    def line_starts(self) -> tuple[int, ...]:
        """Offsets at which the lines begin; the first is 0."""
        return tuple(accumulate((len(line) + 1 for line in self.text.split("\n")[:-1]), initial=0))

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column (both from 1) of an offset; one past the end is allowed."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line (from 1), without its line break."""
        start, end = self.line_range(number)
        return self.text[start:end]

    def line_range(self, number: int) -> tuple[int, int]:
        """Offsets at which a line (from 1) begins and, without its line break, ends."""
        start = self.line_starts[number - 1]
        end = self.line_starts[number] if number < len(self.line_starts) else len(self.text)
        while end > start and self.text[end - 1] in "\r\n":
            end -= 1
        return start, end


@frozen
class Span:
    """A half-open range of offsets in a source: `text[start:end]`."""

    source: Source
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def location(self) -> str:
        """`file:line`."""
        return f"{self.source.name}:{self.source.position(self.start)[0]}"

    def to(self, other: Span) -> Span:
        """From the start of this to the end of the other."""
        return Span(self.source, self.start, max(self.end, other.end))
