"""Steps whose rows are worth a look."""

from __future__ import annotations

from ftdsl.diagnose.curves import Curves
from ftdsl.diagnose.judges.noise import leaps

MOST = 64
"""Steps: of more, the highest."""


def spike_steps(curves: Curves) -> list[int]:
    """Steps at which the loss leaps; where means over several steps are logged, all that such a value covers."""
    losses = curves.loss.finite
    highest = sorted(leaps(curves), key=lambda leap: -losses.values[leap[0]])
    steps: list[int] = []
    for at, _, _ in highest:
        steps += range(losses.steps[at] - curves.every + 1, losses.steps[at] + 1)
    return sorted(steps[:MOST])
