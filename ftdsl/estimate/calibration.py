"""Constants corrected by measurements: the prior weighs as much as a few runs, and less with each further run.

Each constant has a prior value and its spread as a factor (0.2: mostly within 20 %). A measurement gives the combined effect of
several constants. The maximum a posteriori is the minimum of two sums of squares, both in logarithms, since errors are factors;
outliers, such as runs on a busy machine, have less weight (Huber, 1964).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ftdsl.record import frozen

SWEEPS = 200
OUTLIER = 2.0
"""Deviations beyond which the weight of a measurement is limited."""


@frozen(eq=True)
class Believed:
    """The prior of a constant: its value, and its spread as a factor."""

    value: float
    spread: float


@frozen(eq=True)
class Measurement:
    """A measurement: `fixed` plus the sum of constants times amounts should equal `value`."""

    amounts: tuple[float, ...]
    value: float
    fixed: float = 0.0

    def predicted_by(self, constants: Sequence[float]) -> float:
        """The value predicted by the constants."""
        return self.fixed + sum(each * amount for each, amount in zip(constants, self.amounts, strict=True))


def corrected(believed: Sequence[Believed], seen: Sequence[Measurement], noise: float) -> tuple[float, ...]:
    """The most likely constants; the prior values without measurements. noise: of a measurement around the right constants, as
    a factor.
    """
    constants = [constant.value for constant in believed]
    for _ in range(SWEEPS if seen else 0):
        moved = [_step(at, constants, believed[at], seen, noise) for at in range(len(constants))]
        if max(moved) < 1e-7:
            break
    return tuple(constants)


def _step(at: int, constants: list[float], belief: Believed, seen: Sequence[Measurement], noise: float) -> float:
    """Move one constant to its best value with the others fixed (Gauss-Newton). Returns: the change."""
    off = math.log(constants[at] / belief.value)
    slope, curve = -off / belief.spread**2, belief.spread**-2
    for measurement in seen:
        predicted = measurement.predicted_by(constants)
        share = constants[at] * measurement.amounts[at] / predicted
        miss = math.log(measurement.value / predicted)
        weight = min(1.0, OUTLIER * noise / max(abs(miss), 1e-12)) / noise**2
        slope += weight * share * miss
        curve += weight * share**2
    constants[at] *= math.exp(slope / curve)
    return abs(slope / curve)


def left(spread: float, runs: int, noise: float) -> float:
    """The uncertainty of an estimate, as a factor, after so many runs: the prior's spread shrinks, the noise of a run remains."""
    return math.hypot(noise, spread / math.sqrt(1 + runs * (spread / noise) ** 2))
