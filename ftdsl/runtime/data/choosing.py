"""Which rows stay, how often, and in which part: by content and seed alone, so that the order of rows means nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import near_duplicates
from .checking import REASONS
from .surveying import Span
from .table import Table

PARTS = ("train", "eval", "test")
Array = np.ndarray[Any, Any]


@dataclass
class Choice:
    """One element of each array a row: `part` (an index of PARTS), `copies` (0: left out). `twins`: row left out as a
    copy -> the row that stays.
    """

    part: Array
    copies: Array
    twins: dict[int, int]
    shared: int = 0
    """Rows that are trained on though a part with files of its own has them too; 0 where copies are dropped."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Row that the recipe names -> why, in its author's words."""

    def kept(self, part: int) -> Array:
        """Rows of a part, in their order."""
        return np.flatnonzero((self.copies > 0) & (self.part == part))


def choose(spec: dict[str, Any], table: Table, spans: list[Span]) -> Choice:
    """Copies out, then samples, then parts."""
    sources: list[dict[str, Any]] = spec["sources"]
    held = np.zeros(table.rows, np.uint8)
    for span in spans:
        held[span.start : span.end] = PARTS.index(sources[span.source].get("part") or "train")
    choice = Choice(held, np.zeros(table.rows, np.uint16), {})
    if table.rows == 0:
        return choice
    dedupe = spec.get("dedupe")
    if dedupe in ("exact", "near"):
        _drop_equal(table, held, choice.twins)
    elif held.any():
        choice.shared = _shared(table, held)
    if dedupe == "near":
        _drop_alike(table, held, spec["near"], choice.twins)
    why = table.column("why")
    for number, source in enumerate(sources):
        mine = [np.arange(span.start, span.end) for span in spans if span.source == number]
        if mine:
            rows = np.concatenate(mine)
            _sample(rows[why[rows] == 0], source, table.column("digest"), spec["seed"], choice.copies)
    _split(table.column("digest"), spec.get("holdout") or {}, choice)
    return choice


def mixed(digest: Array, seed: int) -> Array:
    """Digests shuffled by a seed: splitmix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        x = digest + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & (2**64 - 1))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


# --- copies

BATCH = 2 << 20
"""Rows that are sorted at a time."""
TWINS = 10_000
"""Copies whose other is remembered, for the report."""


def _by_range(digest: Array, rows: Array) -> Iterator[Array]:
    """Rows in parts, equal digests in the same one, so that a sort never needs much memory."""
    parts = len(rows) // BATCH + 1
    for part in range(parts):
        if len(some := rows[digest[rows] % np.uint64(parts) == part]):
            yield some


def _drop_equal(table: Table, held: Array, twins: dict[int, int]) -> None:
    """Of equal rows the first stays; one of a part with files of its own before others."""
    digest, why = table.column("digest"), table.column("why")
    for rows in _by_range(digest, np.flatnonzero(why == 0)):
        order = rows[np.lexsort((rows, held[rows] == 0, digest[rows]))]
        first = np.r_[True, digest[order][1:] != digest[order][:-1]]
        leader = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
        _leave_out(order[~first], leader[~first], "duplicates", held, why, twins)


def _drop_alike(table: Table, held: Array, share: float, twins: dict[int, int]) -> None:
    """Of rows alike one stays: of a part with files of its own, else the one with the lowest digest."""
    why = table.column("why")
    rows = np.flatnonzero(why == 0)
    bands = [table.column(f"band{at}") for at in range(table.bands)]
    if bands and len(rows) > 1:
        rank = np.where(held == 0, table.column("digest") | np.uint64(1 << 63), table.column("digest") >> np.uint64(1))
        dropped, leader = near_duplicates.groups(rows, rank, bands, table.signs(), share)
        _leave_out(dropped, leader, "near_duplicates", held, why, twins)


def _leave_out(rows: Array, leader: Array, reason: str, held: Array, why: Array, twins: dict[int, int]) -> None:
    outside = (held[leader] != 0) & (held[rows] == 0)
    why[rows] = np.where(outside, REASONS.index("held_out"), REASONS.index(reason))
    room = max(0, TWINS - len(twins))
    twins.update(zip(rows[:room].tolist(), leader[:room].tolist(), strict=True))


def _shared(table: Table, held: Array) -> int:
    digest, fine = table.column("digest"), table.column("why") == 0
    return int(np.isin(digest[fine & (held == 0)], digest[fine & (held != 0)]).sum())


# --- samples and parts


def _sample(rows: Array, source: dict[str, Any], digest: Array, seed: int, copies: Array) -> None:
    """`sample` rows, each `repeat` times. More than there are: all of them, and some once more."""
    wanted, repeat = source.get("sample"), source.get("repeat") or 1
    if wanted is None or not len(rows):
        copies[rows] = repeat
        return
    times, rest = divmod(int(wanted), len(rows))
    copies[rows] = times * repeat
    # Another seed than that of parts, or a sample would be all eval.
    copies[lowest(digest, rows, rest, seed ^ 0x5A17)] += repeat


def lowest(digest: Array, rows: Array, count: int, seed: int, *, ties: bool = False) -> Array:
    """The rows whose digests, shuffled by a seed, are the lowest; with `ties` all that equal the last one too."""
    best, chosen = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    if count <= 0:
        return chosen
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        best, chosen = np.r_[best, mixed(digest[some], seed)], np.r_[chosen, some]
        if len(best) > count:
            last = np.partition(best, count - 1)[count - 1]
            keep = best <= last
            best, chosen = best[keep], chosen[keep]
    return chosen if ties else chosen[np.lexsort((chosen, best))[:count]]


def _split(digest: Array, holdout: dict[str, Any], choice: Choice) -> None:
    """Shares are cut off the range of digests, counts are its lowest ones; equal rows never part."""
    seed, low = holdout.get("seed", 0), 0
    for name in ("test", "eval"):
        share, count = (holdout.get(name, {}).get(kind) for kind in ("share", "count"))
        if share is not None:
            high = min(low + int(share * 2**64), 2**64 - 1)
            chosen = _between(digest, choice.kept(0), seed, low, high)
            low = high
        else:
            chosen = lowest(digest, choice.kept(0), int(count or 0), seed, ties=True)
        choice.part[chosen] = PARTS.index(name)
        choice.copies[chosen] = 1  # counting rows twice is for training


def _between(digest: Array, rows: Array, seed: int, low: int, high: int) -> Array:
    chosen = []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        value = mixed(digest[some], seed)
        chosen.append(some[(value >= np.uint64(low)) & (value < np.uint64(high))])
    return np.concatenate(chosen) if chosen else rows
