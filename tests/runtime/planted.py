"""Texts with near-duplicates of known likeness, for tests and benchmarks: words are replaced as a paraphrase would."""

from __future__ import annotations

import random
from functools import lru_cache

from ftdsl.runtime.data.near_duplicates import shingles

WORDS = [
    f"{first}{second}"
    for first in "ka lo mi ru te sa vo ne pi du".split()
    for second in "ran tel mus dor lin bas".split()
]


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def jaccard(one: str, other: str) -> float:
    a, b = _runs(one), _runs(other)
    return len(a & b) / len(a | b)


@lru_cache(maxsize=1000)  # many are compared with each of many others
def _runs(text: str) -> frozenset[str]:
    return frozenset(shingles(text))


def pair(rng: random.Random, likeness: float, words: int = 120) -> tuple[str, str]:
    """Two texts whose overlap is at most 1% from the likeness wanted: words are replaced, and some put in, until it is."""
    while True:
        one = text(rng, words)
        other = one.split()
        while (overlap := jaccard(one, " ".join(other))) > likeness + 0.01:
            at = rng.randrange(len(other))
            other[at : at + 1] = rng.choices(WORDS, k=rng.choice((1, 1, 1, 2)))
        if overlap >= likeness - 0.01:
            return one, " ".join(other)
