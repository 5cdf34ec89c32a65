"""What several judges ask."""

from __future__ import annotations

from ftdsl.diagnose.curves import Curves
from ftdsl.diagnose.statistics import share, slope

UNKNOWN = 2.5
"""Nats per token: a model that is at more has not learned its rows. Pre-trained models read text at 1 to 2.5 (perplexity 12);
one with random weights is at the logarithm of its vocabulary, 10 to 12, and at 6 with a toy's vocabulary of 400.
"""
LEARNED_NOTHING = 3.5
"""Nats per token: a loss that hardly moves is a fault above this; below, it may be that of a text that is hard (a language, code,
tables) for a model that was trained before.
"""


def text(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def change(curves: Curves) -> tuple[float, bool]:
    """Change of the loss over the last 40 % of the run, as a share of it; whether it is within 2 standard errors of none."""
    tail = list(share(curves.shape, 0.6))
    per_point, error = slope(range(len(tail)), tail)
    return per_point * len(tail) / curves.last, abs(per_point) <= 2 * error


def flat_and_high(curves: Curves) -> bool:
    """A loss of tokens that fell by 15 % and more, and then did not move, above what a model that knows its rows has, while
    the rate was above a tenth of its peak.
    """
    if len(curves.loss.finite) < 12 or curves.of_preferences or curves.fall < 0.15 or curves.last < UNKNOWN:
        return False
    total, still = change(curves)
    rate = share(curves.rates.values, 0.8)[0] if len(curves.rates) else 0.0
    return still and abs(total) <= 0.02 and rate >= 0.1 * curves.peak_rate
