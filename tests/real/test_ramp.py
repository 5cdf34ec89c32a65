"""A batch that changes on the way: every row once an epoch, the rate as without it, resumed inside a phase bit for bit."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.real import trained

pytestmark = pytest.mark.real

CONSTANT = ((4, 2, 8), (7, 4, 4), (0, 8, 2))
GROWING = ((3, 2, 4), (6, 4, 4), (0, 8, 4))
"""Last step, rows of a micro-batch, micro-batches of all ranks."""
ROWS = 'callbacks = ["shims:Rows"]'
TWO = "hardware.count = 2"
LORA = "lora { dropout = 10% }, save { every = 2 steps }, guard { nan = rollback }"


def ramp(phases: tuple[tuple[int, int, int], ...], ranks: int = 1) -> str:
    written = [f"phase({f'until = {until} steps, ' if until else ''}micro = {micro}, accumulate = {parts // ranks})"
               for until, micro, parts in phases]  # fmt: skip
    return f"batch.ramp = [{', '.join(written)}], duration = 1 epochs, {ROWS}"


STAGES = {
    "plain": f"batch {{ micro = 2, accumulate = 8 }}, duration = 1 epochs, {ROWS}, full {{}}",
    "constant": f"{ramp(CONSTANT)}, full {{}}",
    "growing": f"{ramp(GROWING)}, full {{}}",
    "two": f"{ramp(GROWING, 2)}, {TWO}, full {{}}",
    "zero2": f"{ramp(GROWING, 2)}, {TWO}, parallel.strategy = zero2, full {{}}",
    "zero3": f"{ramp(GROWING, 2)}, {TWO}, parallel.strategy = zero3, full {{}}",
    "lora": f"{ramp(GROWING)}, {LORA}",
    "resumed": f'{ramp(GROWING)}, {LORA}, env {{ FTC_INJECT = "nan@6" }}',
}


@pytest.fixture(scope="module")
def ran(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, trained.Trained]:
    place = tmp_path_factory.mktemp("ramp")
    trained.write_rows(place)
    shutil.copy(Path(__file__).with_name("shims.py"), place)
    return trained.run(place, STAGES, forking.python, batch="")


def steps(one: trained.Trained) -> list[tuple[int, list[tuple[int, ...]]]]:
    """(step, its rows) of all ranks, the newest where a step came again."""
    found: dict[int, dict[str, list[tuple[int, ...]]]] = {}
    for path in sorted(one.folder.parent.glob(f"rows-{one.folder.name}-*.jsonl")):
        for step, rows in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            own = found.setdefault(step, {}).setdefault(path.name, [])
            own += [tuple(row) for row in rows]
    return [(step, [row for rows in ranks.values() for row in rows]) for step, ranks in sorted(found.items())]


@pytest.mark.parametrize("name", ["plain", "constant", "growing", "two", "zero2", "zero3"])
def test_every_row_is_read_once_an_epoch(name: str, ran: dict[str, trained.Trained]) -> None:
    seen = Counter(row for _, rows in steps(ran[name]) for row in rows)
    assert len(seen) == 160
    assert set(seen.values()) == {1}


def test_a_batch_that_only_is_cut_otherwise_learns_the_same(ran: dict[str, trained.Trained]) -> None:
    plain, constant = ran["plain"].losses, ran["constant"].losses
    assert list(plain) == list(constant) == list(range(1, 11))
    assert [constant[step] for step in plain] == pytest.approx(list(plain.values()), abs=1e-5)
    assert ran["plain"].rates == ran["constant"].rates


def test_rows_of_each_step_are_those_of_its_phase(ran: dict[str, trained.Trained]) -> None:
    assert [len(rows) for _, rows in steps(ran["growing"])] == [8, 8, 8, 16, 16, 16, 32, 32, 24]
    events = [
        (event["step"], event["micro"], event["accumulate"])
        for event in ran["growing"].events
        if event["event"] == "phase"
    ]
    assert events == [(0, 2, 4), (3, 4, 4), (6, 8, 4)]


@pytest.mark.parametrize("name", ["two", "zero2", "zero3"])
def test_ranks_share_a_step(name: str, ran: dict[str, trained.Trained]) -> None:
    one, other = ran["growing"].losses, ran[name].losses
    assert [other[step] for step in one] == pytest.approx(list(one.values()), abs=1e-5)


def test_resumed_inside_a_phase_it_is_the_same_bit_for_bit(ran: dict[str, trained.Trained]) -> None:
    assert ("nan", "rollback") in ran["resumed"].ledger()
    assert ran["resumed"].losses == ran["lora"].losses
    assert ran["resumed"].rates == ran["lora"].rates
