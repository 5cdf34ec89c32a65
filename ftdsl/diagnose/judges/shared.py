"""What several judges ask."""

from __future__ import annotations

from itertools import accumulate

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


LETTERS = 0.72
"""Share of its first loss that a model which knows how frequent its tokens are, and nothing else, keeps, at least (English
letters: 0.75 of the logarithm of their number). What is below has learned of its rows, however many nats it is at: with few
kinds of tokens UNKNOWN alone says nothing.
"""


UNTRAINED = 5.0
"""Nats per token: a model with random weights begins above (the logarithm of 150 kinds of tokens). One that begins below may be a
trained one that meets a hard text: how high its loss stays says nothing.
"""
LEAST_PATH = 1e-4
"""Sum of all rates of a run: as far as Adam moves a weight at most, where weights are about 0.02 wide."""
WIDE = 0.02
"""How wide weights are, about (the initialisation of most models): what the rates of some steps add up to must be as much, for
Adam to replace them.
"""


def text(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def change(curves: Curves, start: float = 0.6) -> tuple[float, bool]:
    """Change of the loss over the last part of the run, as a share of it; whether it is none: less than 1 %, or within 2 standard
    errors (of a long run these are so small that any change is beyond them). start: share of the run at which the part begins.
    """
    total, error = change_and_error(curves, start)
    return total, abs(total) <= 2 * error or abs(total) < 0.01


def change_and_error(curves: Curves, start: float) -> tuple[float, float]:
    """The same change, and its standard error."""
    tail = list(share(curves.shape, start))
    per_point, error = slope(range(len(tail)), tail)
    return per_point * len(tail) / curves.last, error * len(tail) / curves.last


def late_by_rate(curves: Curves) -> float:
    """Share of the run at which 60 % of the sum of all rates was spent; 0.6 where they are constant or not known."""
    spent = list(accumulate(curves.rates.values))
    if len(spent) < 8 or not spent[-1] > 0:
        return 0.6
    return next(at for at, own in enumerate(spent) if own >= 0.6 * spent[-1]) / len(spent)


SLOW = 5e-4
"""Rate of Adam below which a model that was trained before is not stuck at what its tokens cost: a text is hard for it."""


def flat_and_high(curves: Curves) -> bool:
    """A loss of tokens that fell by 15 % and more, and then did not move while rates were spent, above what a model that knows
    its rows has. First losses of 3 to 5 nats may be those of few kinds of tokens, or of a hard text for a model that was
    trained before.
    """
    if len(curves.loss.finite) < 12 or curves.of_preferences or curves.fall < 0.15 or curves.last < UNKNOWN:
        return False
    kept = LETTERS if curves.every == 1 else 0.8  # a first mean over steps is below what the run began with
    if curves.start < UNTRAINED and curves.last < kept * curves.start:
        return False
    start = late_by_rate(curves)
    total, still = change(curves, start)
    return still and abs(total) <= 0.02 and start > 0.3 and not hard_text(curves) and not held_out_falls(curves, start)


def held_out_falls(curves: Curves, start: float) -> bool:
    """Whether the held-out loss, which has the noise of no batch, falls by 1 % and more over the last part of the run."""
    late = share(curves.evals.finite.values, start)
    per_value, error = slope(range(len(late)), late)
    return len(late) >= 4 and -per_value > 3 * error and -per_value * (len(late) - 1) > 0.01 * late[0]


def hard_text(curves: Curves) -> bool:
    """Whether a loss that stays high may be that of a text which is hard for a model that was trained before: it began below 5
    nats, and the rate is one for such models, or not known.
    """
    return curves.start < UNTRAINED and curves.peak_rate < SLOW
