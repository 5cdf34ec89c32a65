"""Which rows belong to which step, for any data set, ranks and phases."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdsl.runtime.ramp import Phase, StepBatches, phase_at, rows_until, steps_of

PHASES = (Phase(2, 8, 1000), Phase(4, 4, 5000), Phase(8, 2))


def order(rows: int) -> Callable[[int], list[int]]:
    def permutation(epoch: int) -> list[int]:
        return random.Random(epoch).sample(range(rows), rows)

    return permutation


@pytest.mark.parametrize(("step", "micro"), [(0, 2), (999, 2), (1000, 4), (4999, 4), (5000, 8), (10**6, 8)])
def test_a_step_has_the_phase_it_lies_in(step: int, micro: int) -> None:
    assert phase_at(PHASES, step).micro == micro


def test_a_phase_alone_is_a_batch() -> None:
    assert steps_of([Phase(2, 8)], 640, 1) == 40
    assert steps_of([Phase(2, 8)], 641, 1) == 41
    assert steps_of([Phase(2, 8)], 641, 1, drop_last=True) == 40
    assert steps_of([Phase(2, 8)], 3, 1) == 1


phases = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=4).map(
    lambda found: tuple(
        Phase(micro, parts, sum(length for _, _, length in found[: at + 1]) if at < len(found) - 1 else 0)
        for at, (micro, parts, _) in enumerate(found)
    )
)


@given(phases, st.integers(1, 60), st.integers(1, 3), st.integers(1, 3))
def test_every_row_is_read_once_an_epoch(ramp: tuple[Phase, ...], rows: int, epochs: int, world: int) -> None:
    total = rows * epochs
    steps = steps_of(ramp, total, world)
    ranks = [list(StepBatches(rows, ramp, steps, rank, world, order(rows), total)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {steps}
    for at, parts in enumerate(zip(*ranks, strict=True)):
        phase = phase_at(ramp, at)
        assert len({tuple(map(len, own)) for own in parts}) == 1, "ranks compute as many micro-batches, as large"
        assert all(0 < len(micro) <= phase.micro for own in parts for micro in own)
        assert all(len(own) <= phase.accumulate for own in parts)
    read = Counter(row for rank in ranks for step in rank for micro in step for row in micro)
    again = sum(read.values()) - total
    assert set(read) == set(range(rows))
    assert 0 <= again < world, "only the last step may be filled up, to a row for each rank"
    assert max(read.values()) - epochs <= again


@given(phases, st.integers(0, 40), st.integers(1, 3))
def test_rows_and_steps_are_each_others_reverse(ramp: tuple[Phase, ...], steps: int, world: int) -> None:
    rows = rows_until(ramp, steps, world)
    assert rows == sum(phase_at(ramp, step).rows(world) for step in range(steps))
    assert not steps or steps_of(ramp, rows, world) == steps


def test_a_training_of_steps_reads_on_into_the_next_epoch() -> None:
    batches = list(StepBatches(5, [Phase(2, 1)], 5, 0, 1, lambda epoch: range(5)))
    assert batches == [[[0, 1]], [[2, 3]], [[4, 0]], [[1, 2]], [[3, 4]]]


def test_micro_batches_go_to_ranks_in_turn() -> None:
    own = [next(iter(StepBatches(16, [Phase(2, 2)], 2, rank, 2, lambda epoch: range(16)))) for rank in (0, 1)]
    assert own == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
