"""Which rows a step reads: every row once an epoch, all ranks together; tests/real/test_step_rows.py holds it to the engine."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ftdsl.runtime.batches import Order, rows_of_ramp, rows_of_step
from ftdsl.runtime.ramp import Phase


def order(rows: int) -> Order:
    def permutation(epoch: int) -> Sequence[int]:
        own = list(range(rows))
        random.Random(epoch).shuffle(own)
        return own

    return permutation


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_an_epoch_has_every_row(rows: int, micro: int, accumulate: int, world: int) -> None:
    """Once; with several ranks the first rows fill up the last round."""
    rounds = math.ceil(math.ceil(rows / micro) / world)
    steps = math.ceil(rounds / accumulate)
    read = [row for step in range(1, steps + 1)
            for row in rows_of_step(step, rows, order(rows), micro=micro, accumulate=accumulate, world=world)]  # fmt: skip
    assert set(read) == set(range(rows))
    assert len(read) == (rows if world == 1 else rounds * world * micro)
    again = rows_of_step(steps + 1, rows, order(rows), micro=micro, accumulate=accumulate, world=world)
    assert again[:1] == list(order(rows)(1))[:1]


def test_a_dropped_end() -> None:
    read = [rows_of_step(step, 10, lambda _: range(10), micro=3, world=1, drop_last=True) for step in (1, 2, 3, 4)]
    assert read == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 1, 2]]


def test_ranks_take_micro_batches_in_turn() -> None:
    assert rows_of_step(1, 16, lambda _: range(16), micro=2, accumulate=2, world=2) == list(range(8))
    assert rows_of_step(2, 16, lambda _: range(16), micro=2, accumulate=2, world=2) == list(range(8, 16))


def test_a_batch_that_grows() -> None:
    phases = [Phase(2, 1, 2), Phase(2, 2)]
    read = Counter(row for step in range(1, 6) for row in rows_of_ramp(step, 10, lambda _: range(10), phases, total=10))
    assert read == Counter(range(10))
