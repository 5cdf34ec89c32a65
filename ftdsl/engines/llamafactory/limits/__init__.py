"""What LLaMA-Factory 0.9.5 cannot do together, said at the word: each a small function that refuses or warns.

The engine finds these late: after its imports, after loading the model, or never. Each names where it says no.
"""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.engines.llamafactory.limits import adapters, compute, kinds, optimizers, quantised
from ftdsl.engines.llamafactory.work import Work

Limit = Callable[[Work], None]

TRAINING: tuple[Limit, ...] = (adapters.pissa, *quantised.LIMITS, *optimizers.LIMITS, *compute.LIMITS, *kinds.LIMITS)
SCORING: tuple[Limit, ...] = (*quantised.LIMITS, compute.attention, compute.no_effect_on_cpu, adapters.pissa)
MERGING: tuple[Limit, ...] = (adapters.pissa,)


def check(work: Work, limits: tuple[Limit, ...]) -> None:
    """Every limit in order; each adds to the session's sink."""
    for limit in limits:
        limit(work)
