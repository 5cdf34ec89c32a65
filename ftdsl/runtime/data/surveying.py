"""The first reading: every block of every source through the scanners, in processes, into the table."""

from __future__ import annotations

import lzma
import os
import signal
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .blocks import BLOCK, Block, CannotReadError, File
from .reading import files_of
from .reporter import Reporter
from .scanning import Scanned, Scanner
from .table import COLUMNS, Table

MOST = 8
"""Processes: more only wait for the disk, and each takes some 80 MB."""
BROKEN = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What reading a damaged file raises."""


@dataclass
class Span:
    """The rows of a file in the table: from `start` up to `end`. `converted`: some are not written as they were read."""

    source: int
    file: File
    start: int = 0
    end: int = 0
    converted: bool = False


class Survey:
    """Fills the table. `spans` are the files in the order of their rows; `undetected`: rows whose language cannot be detected;
    `columns`: how many rows have each; `unreadable`: what is no row, and is left out.
    """

    def __init__(self, spec: dict[str, Any], table: Table, reporter: Reporter) -> None:
        self.sources: list[dict[str, Any]] = spec["sources"]
        self.table, self.reporter, self.undetected = table, reporter, 0
        self.unreadable = 0
        self.spans: list[Span] = []
        self.columns: Counter[str] = Counter()
        self._spec = spec
        self._left: list[int | None] = [source.get("limit") for source in self.sources]
        for at, source in enumerate(self.sources):
            try:
                self.spans += [Span(at, file) for file in files_of(source)]
            except (CannotReadError, OSError) as error:
                self.reporter.error(source.get("path") or source.get("id", ""), str(error), "files")
        self._size = sum(span.file.size for span in self.spans)

    def read(self) -> None:
        """Every row of every source, or the first `limit`."""
        started: set[int] = set()
        with _Scans(self._spec, self._size) as scans:
            for number, block, scanned in scans.through(self._blocks(), [span.source for span in self.spans]):
                span = self.spans[number]
                if number not in started:
                    started.add(number)
                    span.start = span.end = self.table.rows
                self._take(span, block, scanned)
                before = sum(other.file.size for other in self.spans[:number])
                self.reporter.progress((before + block.read) / 1e6, self._size / 1e6, "MB read")
        at = 0
        for span in self.spans:  # files without a block
            span.start, span.end = max(at, span.start), max(at, span.end)
            at = span.end

    def _blocks(self) -> Iterator[tuple[int, Block]]:
        for number, span in enumerate(self.spans):
            try:
                for block in span.file.blocks():
                    if self._left[span.source] == 0:
                        break
                    yield number, block
            except CannotReadError as error:
                self.reporter.error(span.file.name, str(error), "files")
            except BROKEN as error:
                self.reporter.error(span.file.name, f"cannot be read: {error or 'it ends too soon'}", "files")

    def _take(self, span: Span, block: Block, scanned: Scanned) -> None:
        left = self._left[span.source]
        if left is not None:
            if left == 0:
                return
            taken = int((scanned.why == 0).sum())
            if taken >= left:
                scanned = _first(scanned, left)
                taken = left
            self._left[span.source] = left - taken
        for position, text in scanned.errors:
            self.reporter.error(span.file.where(position), text, "")
        self.reporter.kinds.pop("", None)
        self.reporter.errors += len(scanned.kinds) - len(scanned.errors)
        self.reporter.kinds.update(scanned.kinds)
        self.undetected += scanned.undetected
        self.unreadable += scanned.unreadable
        span.converted |= scanned.converted > 0
        for names, rows in scanned.keys.items():
            self.columns.update(dict.fromkeys(names, rows))
        self.table.add(scanned)
        span.end = self.table.rows


def _first(scanned: Scanned, count: int) -> Scanned:
    """Up to the row that makes the limit full; what comes behind it is nobody's business, be it on the same line."""
    end = int(np.flatnonzero(scanned.why == 0)[count - 1]) + 1
    errors = int(np.searchsorted(scanned.before, end))
    cut = {name: getattr(scanned, name)[:end] for name in (*COLUMNS, "bands")}
    return replace(
        scanned, **cut, errors=scanned.errors[:errors], kinds=scanned.kinds[:errors], before=scanned.before[:errors]
    )


class _Scans:
    """Blocks through scanners, results in the order of the blocks; few wait at a time. Small work is done right here."""

    def __init__(self, spec: dict[str, Any], size: int) -> None:
        self._spec = spec
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._many = min(cores, MOST, size // (2 * BLOCK))
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Scans:
        if self._many > 1:
            self._pool = ProcessPoolExecutor(self._many, initializer=_begin, initargs=(self._spec,))
            self._pool.submit(int).result()  # all are started now, before anything else starts a thread
        else:
            _begin(self._spec)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def through(
        self, blocks: Iterator[tuple[int, Block]], sources: Sequence[int]
    ) -> Iterator[tuple[int, Block, Scanned]]:
        """`sources`: of each file, by its number. Raises: CannotReadError when a process is killed."""
        if self._pool is None:
            for number, block in blocks:
                yield number, block, _scan(block, sources[number])
            return
        waiting: deque[tuple[int, Block, Future[Scanned]]] = deque()
        try:
            for number, block in blocks:
                waiting.append((number, block, self._pool.submit(_scan, block, sources[number])))
                if len(waiting) > self._many + 1:
                    yield _done(*waiting.popleft())
            while waiting:
                yield _done(*waiting.popleft())
        except BrokenProcessPool:
            raise CannotReadError("a process that reads was killed; was memory short?") from None


def _done(number: int, block: Block, future: Future[Scanned]) -> tuple[int, Block, Scanned]:
    scanned = future.result()
    block.lines = b""
    return number, block, scanned


_scanner: list[Scanner] = []


def _begin(spec: dict[str, Any]) -> None:
    if _child():  # to stop is the parent's to handle: a child that dies while it hands over leaves it waiting for ever
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _scanner[:] = [Scanner(spec)]


def _child() -> bool:
    from multiprocessing import parent_process

    return parent_process() is not None


def _scan(block: Block, source: int) -> Scanned:
    return _scanner[0].scan(block, source)
