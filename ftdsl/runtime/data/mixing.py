"""The order of a mixture: which source the next row comes from, by the seed alone. Counts and weights in, numbers out.

The three ends are those of `datasets.interleave_datasets`: first_exhausted, all_exhausted, and each row once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

AHEAD = 1 << 16


def order(counts: list[int], weights: list[float], until: str, seed: int) -> Iterator[int]:
    """Sources one after the other, drawn by weight; without weights in turn.

    until: `first`: ends when a source runs dry; `all`: dry sources start again until each was dry once; `once`: dry
    sources are left out, so that each row comes once.
    """
    left = list(counts)
    live = {at for at, count in enumerate(counts) if count}
    fresh = set(live)
    if not live:
        return
    for source in _draws(len(counts), weights, seed):
        if source not in live:
            continue
        yield source
        left[source] -= 1
        if left[source]:
            continue
        fresh.discard(source)
        if until == "first" or not fresh:
            return
        if until == "once":
            live.discard(source)
        else:
            left[source] = counts[source]


def _draws(many: int, weights: list[float], seed: int) -> Iterator[int]:
    if not weights:
        while True:
            yield from range(many)
    chances = np.array(weights) / sum(weights)
    generator = np.random.Generator(np.random.PCG64(seed))
    while True:
        yield from generator.choice(many, AHEAD, p=chances).tolist()
