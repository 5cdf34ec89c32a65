"""The batch ramp: the rows of each optimizer step, and its micro-batches.

The k-th batch of the loader is the k-th optimizer step of all ranks; micro-batches are split inside that step. The Trainer
computes steps per epoch and the position in the data once, from the accumulation at the start, so neither changing the
accumulation nor successive runs would read each row once. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

Micro = list[int]
"""Indices of the rows of one micro-batch."""


@dataclass(frozen=True)
class Phase:
    """Up to step `until` (0: to the end of the training) each rank computes `accumulate` micro-batches of `micro` rows per
    step.
    """

    micro: int
    accumulate: int
    until: int = 0

    def rows(self, world: int) -> int:
        """Rows of one optimizer step of all ranks."""
        return self.micro * self.accumulate * world


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase of an optimizer step, counted from 0. The last phase has no end."""
    return next((phase for phase in phases if not phase.until or step < phase.until), phases[-1])


def rows_until(phases: Sequence[Phase], steps: int, world: int) -> int:
    """Rows that so many optimizer steps read."""
    read, begin = 0, 0
    for at, phase in enumerate(phases):
        end = steps if at == len(phases) - 1 or not phase.until else min(steps, phase.until)
        read += max(0, end - begin) * phase.rows(world)
        begin = max(begin, end)
    return read


def steps_of(phases: Sequence[Phase], rows: float, world: int, *, drop_last: bool = False) -> int:
    """Optimizer steps that read so many rows; what is left at the end is a smaller step, or is dropped."""
    steps, left = 0, rows
    for at, phase in enumerate(phases):
        size = phase.rows(world)
        whole = int(left // size)
        if at < len(phases) - 1 and phase.until:
            whole = min(whole, max(0, phase.until - steps))
        steps, left = steps + whole, left - whole * size
        if left < size and (at == len(phases) - 1 or not phase.until or steps < phase.until):
            break
    return max(1, steps + (0 if drop_last else math.ceil(left / phase.rows(world))))


class StepBatches:
    """A batch sampler: for each optimizer step the micro-batches of one rank.

    rows: length of the data set. order: the permutation of an epoch, by its number; epochs follow each other as one stream, so
    that a step may read the end of one and the begin of the next. Micro-batches go to ranks in turn, as accelerate deals them.
    """

    def __init__(
        self, rows: int, phases: Sequence[Phase], steps: int, rank: int, world: int, order: Callable[[int], Sequence[int]],
        total: int = 0,
    ) -> None:  # fmt: skip
        self.rows, self.phases, self.steps, self.rank, self.world, self.order = rows, phases, steps, rank, world, order
        self.total = total
        """Rows there are to read in all; 0 where the steps decide."""

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Micro]]:
        stream = self._stream()
        left = self.total or math.inf
        for step in range(self.steps):
            phase = phase_at(self.phases, step)
            size = int(min(left, phase.rows(self.world)))
            left -= size
            yield self._own([next(stream) for _ in range(size)], phase)

    def _stream(self) -> Iterator[int]:
        epoch = 0
        while True:
            yield from self.order(epoch)
            epoch += 1

    def _own(self, step: list[int], phase: Phase) -> list[Micro]:
        if len(step) == phase.rows(self.world):
            cut = [step[at : at + phase.micro] for at in range(0, len(step), phase.micro)]
            return cut[self.rank :: self.world]
        # The last step is short: every rank gets as many rows, or ranks would wait for each other; the first come again.
        each = math.ceil(len(step) / self.world)
        filled = list(islice(cycle(step), each * self.world))
        own = filled[self.rank * each : (self.rank + 1) * each]
        return [own[at : at + phase.micro] for at in range(0, each, phase.micro)]


class Grouped:
    """A data set of micro-batches: an index is a list of rows, an item what the collator makes of them."""

    def __init__(self, dataset: object, collate: Callable[[list[object]], object]) -> None:
        self.dataset, self.collate = dataset, collate

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, micro: Micro) -> object:
        return self.collate([self.dataset[row] for row in micro])  # type: ignore[index]

    @property
    def column_names(self) -> object:
        return getattr(self.dataset, "column_names", None)

    def select(self, rows: object) -> object:
        return self.dataset.select(rows)  # type: ignore[attr-defined]


def as_they_are(micros: list[object]) -> list[object]:
    """The collator of a step: its micro-batches stay apart."""
    return micros
