"""Judges do not depend on the size of a model, the length of a run, or how often it was logged."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.diagnosis import diagnose
from ftdsl.diagnose.judges.noise import spikes
from tests.diagnose.shapes import constant, drawn, power, stairs, warmed

HEALTHY: dict[str, dict[str, Any]] = {
    "pretraining": {"level": power(10.8, 3.6, 200), "noise": 0.03, "rate": 6e-4, "held": power(7, 3.65, 200)},
    "continued": {"level": lambda share: 2.1 - 0.05 * share, "noise": 0.06, "rate": 1e-5},
    "hard text": {"level": power(3.3, 2.8), "noise": 0.06, "rate": 1e-5},
    "instructions": {"level": power(1.5, 0.95), "noise": 0.15, "held": power(1.45, 1.0)},
    "small batch": {"level": power(0.9, 0.6), "noise": 0.2, "rate": 1e-5},
    "constant rate": {"level": power(1.5, 0.95), "noise": 0.12, "course": constant},
    "short answers": {"level": power(2.7, 0.35, 300), "noise": 0.15, "rate": 1e-4},
    "three epochs": {"level": stairs(1.2, 0.95, 0.72), "noise": 0.1, "epochs": 3},
    "three epochs, held out": {"level": stairs(1.2, 0.95, 0.72), "noise": 0.1, "epochs": 3,
                               "held": lambda share: 1.12 - 0.05 * share},
    "adapter, low rate": {"level": power(1.4, 1.3), "noise": 0.12, "rate": 1e-5},
    "adapter": {"level": power(1.4, 1.0), "noise": 0.12, "rate": 2e-4, "norm": lambda share: 0.3 + 0.1 * share},
    "long warm-up": {"level": lambda share: 1.0 + 0.5 / (1 + math.exp(20 * (share - 0.25))), "noise": 0.1,
                     "course": lambda share: warmed(share, 0.4)},
    "restarts": {"level": lambda share: power(1.6, 1.0)(share) * (1 + 0.03 * math.cos(8 * math.pi * share)), "noise": 0.1,
                 "course": lambda share: 0.5 * (1 + math.cos(math.pi * (4 * share % 1)))},
}  # fmt: skip


@pytest.mark.parametrize("kind", HEALTHY)
@pytest.mark.parametrize("every", [1, 5, 10, 25, 50])
@pytest.mark.slow
def test_healthy_at_every_length(kind: str, every: int) -> None:
    """Under 3 % of 24 lengths and seeds: none here, one at most of so many."""
    ill = []
    for steps in (50, 200, 600, 2000):
        for seed in range(6):
            if steps // every >= 5:
                names = [
                    finding.name for finding in diagnose(drawn(steps=steps, every=every, seed=seed, **HEALTHY[kind]))
                ]
                ill += [(steps, seed, names)] if names else []
    assert len(ill) <= 1, ill


LETTERS = power(3.9, 2.5, 200)
"""Of 48 kinds of tokens: nothing costs more than 3.9."""


@pytest.mark.parametrize(
    ("level", "noise", "height"), [(LETTERS, 0.025, 1.35), (power(8, 5), 0.02, 1.3), (power(2, 1), 0.08, 2.2)]
)
@pytest.mark.parametrize("steps", [120, 700])
def test_a_row_in_a_batch_makes_a_low_spike(level: Any, noise: float, height: float, steps: int) -> None:
    bad = {int(steps * share) for share in (0.4, 0.6, 0.85)}
    curves = drawn(level, steps=steps, noise=noise, step=lambda number: height if number in bad else 1.0)
    found = [curves.loss.steps[at] for at, _, _ in spikes(curves.loss)]
    assert found == sorted(bad)
    assert "loss-spikes" in [finding.name for finding in diagnose(curves)]


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.25])
def test_noise_makes_no_spike(noise: float) -> None:
    """8 standard deviations of 20 values are often 4 of the run's."""
    for seed in range(8):
        curves = drawn(power(1.5, 1.0), steps=1500, noise=noise, seed=seed)
        assert spikes(curves.loss) == []


@pytest.mark.parametrize("digits", [1, 2])
def test_digits_make_no_spike(digits: int) -> None:
    curves = drawn(power(0.9, 0.04, 100), steps=400, noise=0.05)
    losses = Series(curves.loss.steps, [round(value, digits) for value in curves.loss.values])
    assert "loss-spikes" not in [finding.name for finding in diagnose(Curves("x", losses, more=curves.more))]


@pytest.mark.parametrize("every", [2, 5, 10])
@pytest.mark.parametrize("period", [60, 110])
def test_an_order_shows_in_means(every: int, period: int) -> None:
    """Two sources one after the other, in each of 6 epochs: one is a tenth harder."""
    kinds = drawn(power(4, 2.5), steps=6 * period, every=every, noise=0.02, epochs=6,
                  step=lambda number: 1.1 if (number - 1) % period < period / 2 else 1.0)  # fmt: skip
    assert "order-of-rows" in [finding.name for finding in diagnose(kinds)]
    shuffled = drawn(power(4, 2.5), steps=6 * period, every=every, noise=0.05, epochs=6, held=power(4, 2.5))
    assert diagnose(shuffled) == []


@pytest.mark.parametrize("vocabulary", [48, 480, 32000])
@pytest.mark.parametrize("every", [1, 10])
def test_too_low_or_too_small(vocabulary: int, every: int) -> None:
    """Where the weights hardly move, the loss falls as the sum of all rates grows; where an adapter is full, it stops."""
    start = math.log(vocabulary)
    low = drawn(
        lambda share: start * (1 - 0.03 * share), steps=300, every=every, noise=0.003, norm=lambda share: 2.0, rate=1e-6
    )
    assert [finding.name for finding in diagnose(low)] == ["rate-too-low"]
    small = drawn(lambda share: start * (0.88 + 0.12 * math.exp(-12 * share)), steps=300, every=every, noise=0.005, rate=1e-3,
                  norm=lambda share: 0.2)  # fmt: skip
    assert [finding.name for finding in diagnose(small)] == ["underfitting"]


@pytest.mark.parametrize("loss", [0.8, 1.6, 2.4])
def test_a_trained_model_that_is_not_trained_further(loss: float) -> None:
    still = drawn(lambda share: loss, steps=200, noise=0.05, rate=1e-9)
    assert [finding.name for finding in diagnose(still)] == ["rate-too-low"]
    assert diagnose(drawn(lambda share: loss, steps=200, noise=0.05, rate=1e-5)) == []


@pytest.mark.parametrize("every", [5, 10, 25])
def test_a_rate_that_replaces_the_weights(every: int) -> None:
    """The rise of the first steps is not in means over them."""
    curves = drawn(power(7, 4.5, 300), steps=600, every=every, noise=0.03, rate=0.3, course=constant)
    assert "rate-too-high" in [finding.name for finding in diagnose(curves)]
    other = Curves("x", curves.loss, more=curves.more, config={"optim": "sgd"})
    assert "rate-too-high" not in [finding.name for finding in diagnose(other)]


@pytest.mark.parametrize("kinds", [26, 65, 200])
def test_few_kinds_of_tokens_are_no_plateau(kinds: int) -> None:
    """What is left of the first loss counts, where that is low: 2.6 nats of 4 are not the frequencies of tokens."""
    start = math.log(kinds)
    learned = drawn(power(start, 0.62 * start, 500), steps=500, noise=0.02, rate=1e-3, course=constant)
    assert diagnose(learned) == []
    if kinds > 26:
        stuck = drawn(lambda share: start * (0.78 + 0.22 * math.exp(-90 * share)), steps=500, noise=0.02, rate=1e-2,
                      course=constant)  # fmt: skip
        assert "plateau" in [finding.name for finding in diagnose(stuck)]


@pytest.mark.parametrize("epochs", [8, 15])
@pytest.mark.parametrize("every", [1, 10])
def test_many_epochs(epochs: int, every: int) -> None:
    """With nothing held out: what falls by half and more after the fourth epoch is known by heart."""
    heart = drawn(lambda share: 2.5 * math.exp(-3 * share), steps=400, every=every, noise=0.05, epochs=epochs)
    assert [finding.name for finding in diagnose(heart)] == ["memorising"]
    assert diagnose(drawn(power(2.5, 1.6), steps=400, every=every, noise=0.05, epochs=epochs)) == []


@pytest.mark.parametrize("unit", [0.001, 0.1, 1.0])
def test_steps_that_slow_down_by_rounded_clocks(unit: float) -> None:
    curves = drawn(power(1.5, 1.0), steps=300, noise=0.05)
    clock = [sum(0.1 + 0.001 * at for at in range(step)) for step in curves.loss.steps]
    rounded = Series(curves.loss.steps, [round(value / unit) * unit for value in clock])
    slow = Curves("x", curves.loss, more={**curves.more, "elapsed": rounded})
    assert [finding.name for finding in diagnose(slow)] == ["slower-and-slower"]
    even = Series(curves.loss.steps, [round(0.2 * step / unit) * unit for step in curves.loss.steps])
    assert diagnose(Curves("x", curves.loss, more={**curves.more, "elapsed": even})) == []


@pytest.mark.parametrize(("growth", "found"), [(0.08, True), (0.5, True), (0.01, False)])
def test_memory_that_creeps(growth: float, found: bool) -> None:
    curves = drawn(power(1.5, 1.0), steps=200, noise=0.05)
    held = Series(curves.loss.steps, [40e9 * (1 + growth * step / 200) for step in curves.loss.steps])
    names = [finding.name for finding in diagnose(Curves("x", curves.loss, more={**curves.more, "memory": held}))]
    assert names == (["memory-creeps"] if found else [])


@pytest.mark.parametrize(("last", "found"), [(4.0, True), (0.05, False)])
def test_divergence_a_token(last: float, found: bool) -> None:
    """GRPO logs a mean over tokens: half a nat is much."""
    steps = list(range(1, 61))
    kl = Series(steps, [0.001 + last * (step / 60) ** 4 for step in steps])
    more = {"kl": kl, "reward": Series(steps, [0.5] * 60)}
    names = [finding.name for finding in diagnose(Curves("x", Series(steps, [0.01] * 60), more=more))]
    assert names == (["divergence-from-reference"] if found else [])


def test_chosen_answers_that_fall_steadily() -> None:
    """A trend over eight logged values is no error of their median."""
    steps = [10 * at for at in range(1, 9)]
    chosen = [0.0, -0.01, -0.07, -0.16, -0.54, -1.08, -1.71, -2.21]
    margins = [0.2, 0.7, 1.1, 1.5, 1.9, 2.2, 2.35, 2.45]
    more = {"rewards/chosen": Series(steps, chosen), "rewards/margins": Series(steps, margins)}
    loss = Series(steps, [0.69 - 0.05 * at for at in range(8)])
    assert [finding.name for finding in diagnose(Curves("x", loss, more=more))] == ["chosen-answers-fall"]
    shared = {**more, "rewards/chosen": Series(steps, [0.35 * value for value in chosen])}
    assert diagnose(Curves("x", loss, more=shared)) == []
