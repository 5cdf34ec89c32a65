"""Detection of anomalies in a step, and of a training that diverged. Pure functions of numbers, without side effects.

Thresholds were measured on 48 planted spikes and 5,000 quiet steps of toys: 2 x median detects 39 spikes and median + 6 MAD 34,
both without a false alarm; 3 x median detects 12, and is the default of actions. Noisier losses exceed 6 MAD of 20 steps by
chance, so that rule applies from 1.5 x median on. Standard library only.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 20
"""Steps whose median is the usual loss; no step is judged before that many."""
WARN_FACTOR, ACT_FACTOR = 2.0, 3.0
DEVIATIONS, DEVIATES_FROM = 6.0, 1.5
"""Median absolute deviations that warn, for losses of at least this many times the median."""
SMALLEST = 0.1
"""The smallest rise that counts: the loss of learned rows varies by large factors between thousandths."""

TAIL = 20
"""Steps at the end of a training by which it is judged."""
FEWEST = 3
"""Steps of the shortest training that is judged: by what is certain of its second half."""
ABOVE, ABOVE_BY = 1.5, 0.5
DEAD = 1e-9


@dataclass(frozen=True)
class Finding:
    """A detected anomaly: nan, spike, grad_norm, stall, eval or diverged. message: a sentence with the numbers; strength: the
    multiple of the usual value, 0 without one.
    """

    anomaly: str
    message: str
    strength: float = 0.0


class Window:
    """The losses of the last steps that were no outliers."""

    def __init__(self, size: int = WINDOW) -> None:
        self.size = max(2, size)
        self.values: deque[float] = deque(maxlen=self.size)
        self.high: deque[float] = deque(maxlen=self.size)

    @property
    def ready(self) -> bool:
        return len(self.values) >= min(WINDOW, self.size)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def take(self, value: float, factor: float) -> Finding | None:
        """Take in a step's loss; a finding when it is too high. factor: of the median; 0: the default rule, with deviations. A
        level that lasts for a whole window becomes the usual one.
        """
        if not math.isfinite(value):
            return None
        if not self.ready:
            self.values.append(value)
            return None
        usual = self.median
        spread = statistics.median(abs(earlier - usual) for earlier in self.values)
        deviates = max(DEVIATES_FROM * usual, usual + DEVIATIONS * spread)
        limit = factor * usual if factor else min(WARN_FACTOR * usual, deviates)
        if value <= limit or value - usual < SMALLEST:
            self.values.append(value)
            self.high.clear()
            return None
        self.high.append(value)
        if len(self.high) == self.size:
            self.values, self.high = deque(self.high, maxlen=self.size), deque(maxlen=self.size)
        text = f"loss is {value:.4g}, where {usual:.4g} was usual"
        return Finding("spike", text, value / usual if usual > 0 else math.inf)


def not_finite(loss: float | None, grad_norm: float | None) -> Finding | None:
    """A loss or a gradient norm that is no number."""
    for name, value in (("loss", loss), ("grad_norm", grad_norm)):
        if value is not None and not math.isfinite(value):
            return Finding("nan", f"{name} is {value}")
    return None


def diverged(
    losses: Sequence[float],
    grad_norms: Sequence[float],
    first: float | None,
    vocabulary: int = 0,
    *,
    had_gradients: bool = True,
) -> Finding | None:
    """A training that ended far above its first loss, or whose gradients vanished at a high loss.

    losses, grad_norms: of the last steps; first: the first loss; vocabulary: its size where the loss is a cross-entropy over
    tokens (a uniform prediction has a loss of ln(vocabulary)), else 0; had_gradients: whether any norm was above zero (layerwise
    optimizers drop gradients before the norm is taken). Fewer than `TAIL` steps are too few to call a loss high; they are judged
    by gradients that vanished, and by losses that are all those of a model that knows nothing.
    """
    if len(losses) < FEWEST:
        return None
    count = TAIL if len(losses) >= TAIL else max(2, len(losses) // 2)
    tail, norms = losses[-count:], grad_norms[-count:]
    if not all(map(math.isfinite, tail)):
        return Finding(
            "diverged", f"of the last {count} losses {sum(not math.isfinite(x) for x in tail)} are no numbers"
        )
    last = statistics.median(tail)
    know_nothing = math.log(vocabulary) if vocabulary > 1 else 0.0
    judged = (last,) if count == TAIL else tail
    at_nothing = bool(know_nothing) and all(abs(loss - know_nothing) < 0.02 * know_nothing for loss in judged)
    if had_gradients and len(norms) == count and max(norms) < DEAD and last > SMALLEST:
        also = f", and the loss is that of a model that knows nothing, ln({vocabulary}) = {know_nothing:.4g}"
        return Finding("diverged", f"the last {count} gradients are zero at a loss of {last:.4g}{also * at_nothing}")
    if first is None or not math.isfinite(first):
        return None
    if at_nothing and first < 0.8 * know_nothing:
        text = f"the loss rose from {first:.4g} to {last:.4g}, that of a model that knows nothing: ln({vocabulary})"
        return Finding("diverged", text)
    if count == TAIL and last > ABOVE * first and last > first + ABOVE_BY:
        return Finding("diverged", f"the loss is {last:.4g} at the end, and was {first:.4g} at the start")
    return None


def worse(metric: str, value: float, best: float | None, factor: float) -> Finding | None:
    """An evaluation whose loss is far above the best before it."""
    if not math.isfinite(value):
        return Finding("eval", f"{metric} is {value}")
    if best is not None and value > factor * best and value - best > SMALLEST:
        text = f"{metric} is {value:.4g}, {value / best:.1f} times the best so far ({best:.4g})"
        return Finding("eval", text, value / best)
    return None
