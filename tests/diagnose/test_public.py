"""What public logs of sound trainings look like, where toys do not: rows that differ much, losses in other units, short runs."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.diagnosis_logging import LINES, Score, runs_of
from benchmarks.diagnosis_variants import variant as as_logged
from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.diagnosis import diagnose
from ftdsl.diagnose.read import of_document, trainings
from tests.diagnose.shapes import constant, drawn, power


def names(curves: Curves) -> list[str]:
    return [finding.name for finding in diagnose(curves)]


def heavy(level: Any, steps: int, every: int = 1, share: float = 0.25, seed: int = 1) -> Curves:
    """Rows of which a share costs two to five times as much, evenly over the run: of a batch of one or two."""
    draw = random.Random(seed)
    factors = {step: 1 + 3 * draw.random() for step in range(1, steps + 1) if draw.random() < share}
    return drawn(
        level, steps=steps, every=every, noise=0.06, rate=5e-5, seed=seed, step=lambda step: factors.get(step, 1.0)
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("every", [1, 5, 10])
def test_rows_that_differ_much_are_no_spikes(every: int, seed: int) -> None:
    assert "loss-spikes" not in names(heavy(power(2.5, 0.6, 200), 900, every, seed=seed))


def test_a_spike_among_rows_that_differ_is_told() -> None:
    curves = heavy(power(2.5, 0.6, 200), 900)
    values = [
        value * (12 if step == 600 else 1) for step, value in zip(curves.loss.steps, curves.loss.values, strict=True)
    ]
    found = diagnose(Curves("x", Series(curves.loss.steps, values), more=curves.more))
    assert [finding.name for finding in found] == ["loss-spikes"]
    assert 597 < found[0].step <= 600


@pytest.mark.parametrize("every", [1, 10])
def test_a_row_that_is_not_known_yet_is_no_spike(every: int) -> None:
    """Of rows that are known by heart (0.002 nats), one in fifty still costs 0.4."""
    curves = drawn(lambda share: 0.002 + 3 * math.exp(-20 * share), steps=600, every=every, noise=0.1, rate=5e-5, epochs=2,
                   step=lambda step: 200.0 if step > 200 and step % 50 == 7 else 1.0)  # fmt: skip
    assert "loss-spikes" not in names(curves)
    lost = drawn(lambda share: 0.002 + 3 * math.exp(-20 * share), steps=600, noise=0.1, rate=5e-5, epochs=2,
                 step=lambda step: 1500.0 if step == 400 else 1.0)  # fmt: skip
    assert "loss-spikes" in names(lost)


@pytest.mark.parametrize("every", [1, 5])
def test_a_small_loss_that_differs_is_no_oscillation(every: int) -> None:
    """1.4 -> 0.06 nats, of two rows a step."""
    low = drawn(power(1.4, 0.06, 400), steps=600, every=every, noise=0.5, rate=5e-5,
                norm=lambda share: 1 + 2 * (int(600 * share) % 3))  # fmt: skip
    assert "oscillating" not in names(low)


@pytest.mark.parametrize(("rate", "found"), [(1e-4, False), (5e-4, False), (0.05, True)])
def test_units_of_a_first_loss(rate: float, found: bool) -> None:
    """A first mean of 25 nats is no fault of a rate that cannot have moved weights by their width: mT5 begins so, and sums."""
    curves = drawn(
        lambda share: 2.5 + 60 * math.exp(-120 * share), steps=500, every=10, noise=0.03, rate=rate, course=constant
    )
    assert ("rate-too-high" in names(curves)) is found


def test_a_sum_of_losses_falls_slowly() -> None:
    curves = drawn(power(25, 4, 20), steps=2000, every=20, noise=0.03, rate=1e-4)
    assert names(curves) == []
    assert names(Curves("x", curves.loss)) == []


@pytest.mark.parametrize("steps", [40, 60, 120])
@pytest.mark.parametrize("start", [5.2, 7.8, 10.9])
def test_a_short_run_is_no_underfit(start: float, steps: int) -> None:
    """It falls by a sixth, and goes on falling in the end."""
    assert (
        names(drawn(lambda share: start * (1 - 0.17 * share), steps=steps, noise=0.03, rate=2e-3, course=constant))
        == []
    )


@pytest.mark.parametrize("loss", [3.7, 4.6])
def test_a_hard_text_is_no_underfit(loss: float) -> None:
    """A trained model that stays at what the text costs."""
    assert names(drawn(lambda share: loss * (1 - 0.03 * share), steps=200, noise=0.06, rate=2e-3)) == []


@pytest.mark.parametrize("every", [1, 5, 10])
def test_a_schedule_that_starts_again_is_no_spike(every: int) -> None:
    def level(share: float) -> float:
        part = 4 * share % 1
        return (2.6 - 0.8 * share) * (1 + (0.6 * math.exp(-12 * part) if share > 0.25 else 0.0))

    def course(share: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * (4 * share % 1)))

    assert "loss-spikes" not in names(drawn(level, steps=400, every=every, noise=0.02, rate=1e-3, course=course))


def test_rows_known_by_heart_and_nothing_else() -> None:
    """A held-out loss that never falls does not rise from a lowest either."""
    curves = drawn(lambda share: 7.5 * math.exp(-2.2 * share), steps=300, noise=0.03, rate=1e-3, epochs=20,
                   held=lambda share: 7.3 - 0.2 * math.sin(3 * share))  # fmt: skip
    assert names(curves) == ["overfitting"]
    few = drawn(lambda share: 7.5 * math.exp(-2.2 * share), steps=300, noise=0.03, rate=1e-3, epochs=2.0,
                held=lambda share: 7.5 * math.exp(-1.2 * share))  # fmt: skip
    assert names(few) == []


@pytest.mark.parametrize(("swing", "found"), [(0.003, False), (0.06, True)])
def test_an_order_that_makes_no_difference(swing: float, found: bool) -> None:
    """Of two thousand means a swing by 0.6 % is as certain as one by 12 %."""
    curves = drawn(lambda share: (1.0 - 0.2 * share) * (1 + swing * math.sin(10 * math.pi * share)), steps=20000, every=10,
                   noise=0.02, rate=1e-5, epochs=5, held=lambda share: 1.0 - 0.2 * share)  # fmt: skip
    assert ("order-of-rows" in names(curves)) is found


@pytest.mark.parametrize(
    ("variant", "least"), [("as logged", 0.89), ("mean of 5 steps", 0.78), ("mean of 10 steps", 0.7)]
)
def test_families_of_other_models(variant: str, least: float) -> None:
    """StarCoder 2, Phi-3 and StableLM: docs/diagnose.md has what each was worth before and after."""
    score = Score()
    for condition, file, document in runs_of(LINES):
        if (logged := as_logged(variant, document)) is not None:
            score.add(condition, file, names(of_document(logged, Path(file), {})))
    assert score.hits >= least * score.sick, score.missed
    assert score.alarms <= 0.05 * score.healthy, score.ill


@pytest.mark.parametrize("every", [1, 5, 10])
@pytest.mark.parametrize(
    ("epoch", "length", "found"), [(412, 50, False), (300, 50, False), (412, 412, True), (150, 150, True)]
)
def test_groups_of_like_lengths_are_no_order(epoch: int, length: int, found: bool, every: int) -> None:
    """`group_by_length` begins with the longest rows every 50 steps; rows in one order swing with the epoch."""
    steps = 6 * epoch

    def level(share: float) -> float:
        within = share * steps % epoch % length / length
        return (1.4 - 0.3 * share) * (1.3 - 0.6 * within)

    curves = drawn(
        level, steps=steps, every=every, noise=0.05, rate=1e-4, epochs=6, held=lambda share: 1.3 - 0.3 * share
    )
    assert ("order-of-rows" in names(curves)) is (found and every > 1)


STEPS = range(10, 400, 10)


def swift(step: int) -> dict[str, Any]:
    return {"loss": 2.0, "grad_norm": 1.5, "learning_rate": 1e-5, "epoch": step / 100, "global_step/max_steps": f"{step}/400",
            "elapsed_time": f"{step // 60}m {step % 60}s", "memory(GiB)": 20 + step / 20, "train_speed(iter/s)": 1.0}  # fmt: skip


def axolotl(step: int) -> str:
    row = {"loss": "2.0", "grad_norm": "1.5", "learning_rate": "1e-05", "memory/max_active (GiB)": f"{20 + step / 20}",
           "memory/device_reserved (GiB)": "40.0", "tokens/train_per_sec_per_gpu": f"{9000 / (1 + step / 150):.1f}"}  # fmt: skip
    return f" 1%|# | {step}/400 [00:{step % 60:02d}<10:00,  3.1it/s]\n{row}"


TEXTS = {
    "swift.jsonl": (lambda step: json.dumps(swift(step)), ["memory-creeps"]),
    "swift.log": (lambda step: f"[INFO:swift] {swift(step)}", ["memory-creeps"]),
    "axolotl.log": (axolotl, ["memory-creeps"]),
    "torchtune.log": (lambda step: f"Step {step} | loss:2.0 lr:2e-05 tokens_per_second_per_gpu:{9000 / (1 + step / 150)} "
                      f"peak_memory_active:{20 + step / 20} peak_memory_reserved:44.0", ["slower-and-slower", "memory-creeps"]),
    "megatron.log": (lambda step: f" iteration {step:8d}/ 400 | elapsed time per iteration (ms): {1000 + 8 * step:.1f} | "
                     "learning rate: 2.0E-05 | lm loss: 2.0E+00 | grad norm: 1.2 |", ["slower-and-slower"]),
    "nemo.log": (lambda step: f"Training epoch 0, iteration {step}/400 | lr: 2e-05 | global_step: {step} | reduced_train_loss: "
                 f"2.0 | train_step_timing in s: {1 + step / 120:.3f}", ["slower-and-slower"]),
    "own.log": (lambda step: f"step={step} train_loss=2.0 lr=1e-5 tok/s={9000 / (1 + step / 150):.0f} mem={20 + step / 20:.2f}GB",
                ["slower-and-slower", "memory-creeps"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_times_and_memory_of_other_logs(name: str, tmp_path: Path) -> None:
    line, found = TEXTS[name]
    (tmp_path / name).write_text("\n".join(map(line, STEPS)) + "\n", encoding="utf-8")
    (curves,) = trainings(tmp_path / name)
    assert curves.loss.steps == list(STEPS)
    assert curves.series("memory").values[:1] in ([], [20.5 * 2**30])
    assert [each for each in names(curves) if each in ("slower-and-slower", "memory-creeps")] == found


@pytest.mark.parametrize("norm", [None, lambda share: 0.8 + share])
def test_rates_tell_that_weights_moved(norm: Any) -> None:
    """A loss that stays although Adam went far: what is trained holds no more, whether gradient norms were logged or not."""
    stays = drawn(lambda share: 7.8 - 0.2 * min(1.0, 5 * share), steps=200, noise=0.01, rate=3e-3, norm=norm)
    assert names(stays) == ["underfitting"]
    still = drawn(lambda share: 7.8 - 0.02 * share, steps=200, noise=0.01, rate=1e-6, norm=norm and (lambda share: 2.0))
    assert names(still) == ["rate-too-low"]
