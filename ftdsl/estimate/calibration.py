"""Constants corrected by measurements: what was believed before counts as much as a few runs, and less with each run more.

Each constant has a value that is believed and how sure that is, as a factor (0.2: mostly within 20 %). A measurement says what
several constants came to together. What is most likely then is the least of two sums of squares (maximum a posteriori, with
both in logarithms, since everything here is a factor); far outliers, as on a machine that was busy, pull less (Huber, 1964).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ftdsl.record import frozen

SWEEPS = 200
OUTLIER = 2.0
"""Deviations beyond which a measurement pulls no harder."""


@frozen(eq=True)
class Believed:
    """A constant: its likely value, and how far off it may be, as a factor."""

    value: float
    spread: float


@frozen(eq=True)
class Measurement:
    """A measurement: `fixed` plus each constant times its amount should come to `value`."""

    amounts: tuple[float, ...]
    value: float
    fixed: float = 0.0

    def predicted_by(self, constants: Sequence[float]) -> float:
        """What the constants come to."""
        return self.fixed + sum(each * amount for each, amount in zip(constants, self.amounts, strict=True))


def corrected(believed: Sequence[Believed], seen: Sequence[Measurement], noise: float) -> tuple[float, ...]:
    """The constants that explain what was seen best; the believed values where nothing was. `noise`: how far, as a factor, a
    measurement may be off what the right constants come to.
    """
    constants = [constant.value for constant in believed]
    for _ in range(SWEEPS if seen else 0):
        moved = [_step(at, constants, believed[at], seen, noise) for at in range(len(constants))]
        if max(moved) < 1e-7:
            break
    return tuple(constants)


def _step(at: int, constants: list[float], belief: Believed, seen: Sequence[Measurement], noise: float) -> float:
    """One constant moved to where it fits best with the others as they are (Gauss-Newton); how far it moved."""
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
    """How far off an estimate may be, as a factor, after so many measurements: the believed spread shrinks, a run's own stays."""
    return math.hypot(noise, spread / math.sqrt(1 + runs * (spread / noise) ** 2))
