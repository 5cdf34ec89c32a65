"""Curves of trainings that are not toys, drawn: levels, noise and lengths as language models of billions of weights have them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from ftdsl.diagnose.curves import Curves, Series

Level = Callable[[float], float]
"""Share of the run, from 0 to 1 -> loss."""


def warmed(share: float, start: float = 0.05) -> float:
    """A rate's course, from 0 to 1: a warm-up and a cosine."""
    return share / start if share < start else 0.5 * (1 + math.cos(math.pi * (share - start) / (1 - start)))


def constant(share: float) -> float:
    return min(1.0, share / 0.03)


def drawn(
    level: Level, *, steps: int, every: int = 1, noise: float = 0.08, rate: float = 2e-5, course: Level = warmed,
    epochs: float = 1.0, held: Level | None = None, norm: Level | None = lambda share: 0.6 + 0.8 * math.exp(-8 * share),
    tail: float = 0.0, seed: int = 1, step: Callable[[int], float] = lambda step: 1.0,
) -> Curves:  # fmt: skip
    """A training as it would be logged with `logging_steps = every`.

    noise: standard deviation of a step's loss as a share of it; tail: share of the steps whose noise is twice that; step:
    a factor for single steps, from 1.
    """
    draw = random.Random(seed)
    loss, evals, norms, rates, passed = Series(), Series(), Series(), Series(), Series()
    kept = []
    for number in range(1, steps + 1):
        share = number / steps
        wide = noise * (2 if draw.random() < tail else 1)
        kept.append(level(share) * math.exp(draw.gauss(0, wide)) * step(number))
        if number % every == 0:
            loss.add(number, sum(kept) / len(kept))
            rates.add(number, rate * course(share))
            passed.add(number, epochs * share)
            if norm is not None:
                norms.add(number, norm(share) * draw.lognormvariate(0, 0.15))
            kept = []
        if held is not None and number % max(every, steps // 10) == 0:
            evals.add(number, held(share) * math.exp(draw.gauss(0, 0.003)))
    more = {"learning_rate": rates, "epoch": passed} | ({"grad_norm": norms} if norm is not None else {})
    return Curves("drawn", loss, evals, more)


def power(start: float, end: float, speed: float = 40.0) -> Level:
    """Down from `start` to `end` as 1/(1 + speed x share)^0.6."""
    last = (1 + speed) ** -0.6
    return lambda share: end + (start - end) * ((1 + speed * share) ** -0.6 - last) / (1 - last)


def stairs(*levels: float) -> Level:
    """A level an epoch, with a slight fall within."""
    return lambda share: levels[min(int(share * len(levels)), len(levels) - 1)] * (1 - 0.03 * (share * len(levels) % 1))
