"""The second reading: each part's rows in their order as JSON Lines, and the rows that were left out, with the reason."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import orjson

from . import mixing
from .blocks import CannotReadError
from .checking import REASONS
from .choosing import PARTS, Choice
from .conversion import Converter
from .reporter import Reporter
from .surveying import BROKEN, Span
from .table import Table

KEPT_OUT = 1000
"""Rows of each reason that are written to dropped.jsonl; all are counted."""


@dataclass
class Part:
    """A part's file: written beside, renamed when all is well."""

    folder: str
    name: str
    rows: int = 0
    size: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    def __enter__(self) -> Part:
        self._file = open(self._beside, "wb")
        return self

    @property
    def _beside(self) -> str:
        return os.path.join(self.folder, f".{self.name}.jsonl")

    def write(self, lines: list[bytes]) -> None:
        if lines:
            text = b"\n".join(lines) + b"\n"
            self._file.write(text)
            self.sha256.update(text)
            self.rows += len(lines)
            self.size += len(text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            os.replace(self._beside, os.path.join(self.folder, f"{self.name}.jsonl"))
        else:
            os.remove(self._beside)


class Writer:
    """Writes the parts. `wanted` rows are remembered in `seen`, as bytes, for the card and for lengths."""

    def __init__(
        self, spec: dict[str, Any], table: Table, spans: list[Span], choice: Choice, reporter: Reporter
    ) -> None:
        self.spec, self.table, self.spans, self.choice, self.reporter = spec, table, spans, choice, reporter
        self.wanted: set[int] = set()
        self.seen: dict[int, bytes] = {}
        self.dropped: Counter[str] = Counter()
        self._folder = spec["stage"]
        self._total = int(choice.copies.sum())
        self._converters = [Converter(spec, source) for source in spec["sources"]]
        self._done = 0

    def write(self, names: list[str]) -> dict[str, Part]:
        """The named parts. Raises: CannotReadError when a file is not what it was a moment ago, OSError."""
        parts = {name: Part(self._folder, name) for name in names}
        mix = self.spec.get("mix") or "concat"
        train = parts.pop("train") if mix != "concat" else None
        left_out = Part(self._folder, "dropped")
        for part in parts.values():
            part.__enter__()
        try:
            with left_out:
                self._plain(parts, left_out)
            if train is not None:
                with train:
                    self._mixed(train, mix)
        except BaseException as error:
            for part in parts.values():
                part.__exit__(type(error), error, None)
            raise
        for part in parts.values():
            part.__exit__(None, None, None)
        return {name: parts.get(name) or train for name in names if name in parts or train}  # type: ignore[misc]

    def _plain(self, parts: dict[str, Part], left_out: Part) -> None:
        """All rows in the order they were read."""
        by_number = [parts.get(name) for name in PARTS]
        for span in self.spans:
            for start, lines in self._lines(span):
                end = start + len(lines)
                why, copies = self.table.column("why")[start:end], self.choice.copies[start:end]
                part = self.choice.part[start:end]
                if self.wanted:
                    self._remember(start, lines)
                for number, file in enumerate(by_number):
                    if file is not None:
                        chosen = np.flatnonzero((copies > 0) & (part == number)).tolist()
                        once = copies[chosen].max(initial=0) <= 1
                        times = [1] * len(chosen) if once else copies[chosen].tolist()
                        file.write([lines[at] for at in chosen] if once else _repeated(lines, chosen, times))
                        self._done += sum(times)
                if why.any():
                    self._leave_out(span, start, lines, why, left_out)
                self.reporter.progress(self._done, self._total, "rows written")

    def _remember(self, start: int, lines: list[bytes]) -> None:
        for row in range(start, start + len(lines)):
            if row in self.wanted:
                self.seen[row] = lines[row - start]

    def _leave_out(self, span: Span, start: int, lines: list[bytes], why: Any, left_out: Part) -> None:
        lines_left_out = []
        for at in np.flatnonzero(why).tolist():
            reason = REASONS[why[at]]
            self.dropped[reason] += 1
            if self.dropped[reason] <= KEPT_OUT:
                row: dict[str, Any] = {"why": reason, "file": span.file.name, **self._numbers(span, start + at)}
                if (twin := self.choice.twins.get(start + at)) is not None:
                    row["like"] = self.where(twin)
                if words := self.choice.reasons.get(start + at):
                    row["reason"] = words
                lines_left_out.append(orjson.dumps(row)[:-1] + b',"row":' + _as_json(lines[at], reason) + b"}")
        left_out.write(lines_left_out)

    def _position(self, row: int) -> int:
        return int(self.table.column("position")[row])

    def _numbers(self, span: Span, row: int) -> dict[str, int]:
        """Where the row is: its line, or its `number` in the file (`row` is what it holds)."""
        numbers = span.file.numbers(self._position(row))
        return {"number" if name == "row" else name: value for name, value in numbers.items()}

    def where(self, row: int) -> str:
        """`a.jsonl:17` of a row of the table."""
        span = next(span for span in self.spans if span.start <= row < span.end)
        return span.file.where(self._position(row))

    def _lines(self, span: Span) -> Iterator[tuple[int, list[bytes]]]:
        """(number of the first row, lines) by blocks, for the rows the first reading took. Raises: CannotReadError."""
        row = span.start
        try:
            for block in span.file.blocks():
                if row >= span.end:
                    break
                lines = [line.strip() for _, line in block.numbered()][: span.end - row]
                if span.converted:
                    lines = [self._converted(line, span.source) for line in lines]
                yield row, lines
                row += len(lines)
        except BROKEN as error:
            raise CannotReadError(f"{span.file.name} cannot be read a second time: {error}") from None
        if row != span.end:
            raise CannotReadError(f"{span.file.name} changed while it was read")

    def _converted(self, line: bytes, source: int) -> bytes:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:  # left out
            return line
        made = self._converters[source].row(row)
        return line if made is row else orjson.dumps(made)

    # --- mixtures

    def _mixed(self, train: Part, until: str) -> None:
        """Training rows drawn from the sources in turn, or by weight."""
        sources = [source for source in self.spec["sources"] if not source.get("part")]
        many = len(sources)
        rows = [0] * many
        for span in self.spans:
            chosen = self.choice.part[span.start : span.end] == 0
            if span.source < many:  # those behind are parts of their own
                rows[span.source] += int(self.choice.copies[span.start : span.end][chosen].sum())
        weights = [float(source["weight"]) for source in sources if source.get("weight") is not None]
        cursors = [self._training(number) for number in range(many)]
        lines: list[bytes] = []
        self._total, self._done = sum(rows), 0
        for source in mixing.order(rows, weights, until, self.spec["seed"]):
            line = next(cursors[source], None)
            if line is None:  # from the start again
                cursors[source] = self._training(source)
                line = next(cursors[source])
            lines.append(line)
            if len(lines) >= 4096:
                train.write(lines)
                self._done += len(lines)
                lines = []
                self.reporter.progress(self._done, self._total, "rows mixed")
        train.write(lines)

    def _training(self, source: int) -> Iterator[bytes]:
        for span in self.spans:
            if span.source == source:
                for start, lines in self._lines(span):
                    copies = self.choice.copies[start : start + len(lines)]
                    part = self.choice.part[start : start + len(lines)]
                    chosen = np.flatnonzero((copies > 0) & (part == 0)).tolist()
                    yield from _repeated(lines, chosen, copies[chosen].tolist())


def _as_json(line: bytes, reason: str) -> bytes:
    """A row as it was read; as a text if it may be no JSON."""
    if reason != "broken":
        return line
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return orjson.dumps(line.decode("utf-8", "replace"))
    return line


def _repeated(lines: list[bytes], chosen: list[int], times: list[int]) -> list[bytes]:
    return [line for at, many in zip(chosen, times, strict=True) for line in [lines[at]] * many]
