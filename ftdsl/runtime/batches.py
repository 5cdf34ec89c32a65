"""Which rows an optimizer step reads: the order of an epoch, dealt to ranks and micro-batches as the Trainer and accelerate do.

Sources: transformers 5.6, trainer.py (steps of an epoch); accelerate 1.11, data_loader.py (SeedableRandomSampler: the
permutation of an epoch has the seed `seed + epoch`; BatchSamplerShard: batches go to ranks in turn, and the first rows fill up
the last round). Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice

from .ramp import Phase, StepBatches

Order = Callable[[int], Sequence[int]]
"""The permutation of an epoch, by its number from 0."""


def rows_of_step(
    step: int, rows: int, order: Order, *, micro: int, accumulate: int = 1, world: int = 1, drop_last: bool = False,
) -> list[int]:  # fmt: skip
    """Indices of the rows that optimizer step `step` (from 1) reads, of all ranks, in the order of micro-batches.

    rows: length of the data set. micro: rows of a rank's micro-batch. A row may occur twice where the last round is filled up.
    """
    batches = rows // micro if drop_last else math.ceil(rows / micro)
    rounds = batches // world if drop_last else math.ceil(batches / world)
    updates = max(1, math.ceil(rounds / accumulate))
    epoch, update = divmod(step - 1, updates)
    permutation = list(order(epoch))
    if world > 1 and not drop_last:
        whole = rounds * world * micro
        permutation = [permutation[at % rows] for at in range(whole)]
    start, end = update * accumulate * world * micro, min(rounds, (update + 1) * accumulate) * world * micro
    return permutation[start:end]


def rows_of_ramp(
    step: int, rows: int, order: Order, phases: Sequence[Phase], world: int = 1, total: int = 0
) -> list[int]:
    """The same of a training whose batch grows (ramp.py). total: rows that are read in all, 0 where steps decide."""
    read: list[int] = []
    for rank in range(world):
        batches = StepBatches(rows, phases, step, rank, world, order, total)
        for micros in islice(batches, step - 1, step):
            read += [row for micro in micros for row in micro]
    return read
