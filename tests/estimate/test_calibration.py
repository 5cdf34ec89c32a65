"""Constants corrected by measurements: believed without any, pulled by a few, decided by many; odd ones change little."""

from __future__ import annotations

import pytest

from ftdsl.estimate import cpu
from ftdsl.estimate.architecture import Architecture
from ftdsl.estimate.calibration import Believed, Measurement, corrected, left
from ftdsl.estimate.setup import Setup
from ftdsl.record import replace

ONE = Believed(1.0, 0.1)


def test_what_is_believed_holds_until_something_is_seen() -> None:
    assert corrected((ONE,), (), 0.1) == (1.0,)


def test_measurements_decide_as_they_grow_in_number() -> None:
    found = [corrected((ONE,), [Measurement((100.0,), 120.0)] * runs, 0.1)[0] for runs in (1, 4, 50)]
    assert found == sorted(found) and 1.05 < found[0] < 1.15 and found[2] == pytest.approx(1.2, abs=0.01)


def test_a_busy_machine_does_not_decide() -> None:
    good = [Measurement((100.0,), 110.0)] * 5
    odd = corrected((ONE,), [*good, Measurement((100.0,), 500.0)], 0.1)[0]
    assert odd == pytest.approx(corrected((ONE,), good, 0.1)[0], rel=0.05)


def test_less_is_left_open_with_each_run() -> None:
    assert left(0.7, 0, 0.1) > left(0.7, 1, 0.1) > left(0.7, 5, 0.1) > 0.1


def setup(hidden: int, layers: int, length: int, micro: int, method: str = "full") -> Setup:
    sizes = Architecture(hidden, layers, 8, 8, 4 * hidden, 16_000)
    return Setup(
        sizes, method=method, lora_rank=8, lora_targets=("q", "v"), base_dtype="fp32", autocast=False, seq_len=length,
        micro_batch=micro, checkpointing="none", optimizer="adamw_fused", card="",
    )  # fmt: skip


SETUPS = [setup(256, 4, 256, 8), setup(1024, 6, 128, 4), setup(512, 12, 512, 4, "lora"), setup(256, 6, 1024, 4)]


def test_a_machine_is_known_by_its_runs() -> None:
    """Runs of a machine with other constants than are believed: another set-up on it is told."""
    machine = cpu.Processor(0.8 * 2**30, 1.3, 90e9, 12e9)
    runs = []
    for one in SETUPS:
        spent = cpu.spent(one, 1, machine)
        runs.append(cpu.Run(one, one, 1, spent.resident, spent.step))
    other = setup(768, 8, 512, 2)
    told, right = cpu.spent(other, 1, cpu.calibrated(runs)), cpu.spent(other, 1, machine)
    before = cpu.spent(other, 1, cpu.Processor())
    assert told.resident == pytest.approx(right.resident, rel=0.03) != pytest.approx(before.resident, rel=0.03)
    assert told.step == pytest.approx(right.step, rel=0.1) != pytest.approx(before.step, rel=0.1)
    assert told.step_interval[1] / told.step_interval[0] < before.step_interval[1] / before.step_interval[0]


def test_the_peak_grows_with_what_is_trained() -> None:
    plain = setup(512, 8, 256, 4)
    full, adapter = cpu.spent(plain, 1, cpu.Processor()), cpu.spent(replace(plain, method="lora"), 1, cpu.Processor())
    again = cpu.spent(replace(plain, checkpointing="full"), 1, cpu.Processor())
    assert full.resident > adapter.resident > cpu.BASE.value
    assert again.resident < full.resident and again.step > full.step
    assert cpu.spent(plain, 2, cpu.Processor()).step < full.step
