"""Rows that are almost the same: MinHash (rensa), and bands of it that equal rows share, kept on disk.

Two rows are alike when the three-word runs of their texts overlap by a share (Jaccard). Which pairs are looked at
follows from bands of their sketches (locality-sensitive hashing: Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, 3.4); whether they are alike is then estimated from the whole sketch. Nothing depends on the order of rows.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

PERMUTATIONS = 256
"""Hashes of a sketch: the estimate of an overlap of 85% is then off by 2.2% (one standard deviation)."""
SHINGLE = 3
SEED = 1
RECALL = 0.995
"""Of pairs that are just alike enough, this many share a band."""
NEIGHBOURS = 8
"""Rows of a band's group that are compared with each one; larger groups hang together through them."""
BATCH, PAIRS = 1 << 20, 1 << 16
"""Rows of a band that are sorted, and pairs that are compared, at a time."""
_WORD = re.compile(r"[\u0e00-\u0e7f\u2e80-\u9fff\uf900-\ufaff]|\w+")
"""Where words are not set apart by blanks (Thai, Chinese, Japanese), a character is one."""
Array = np.ndarray[Any, Any]


def bands_for(share: float) -> tuple[int, int]:
    """(bands, hashes of a band): as long as can be, so that few unlike rows meet, while alike ones still do."""
    for rows in range(32, 0, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - share**rows) ** bands >= RECALL:
            return bands, rows
    return PERMUTATIONS, 1


def shingles(text: str) -> list[str]:
    """Runs of three words; of a shorter text the whole."""
    words = _WORD.findall(text.lower())
    return [" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))]


class Sketcher:
    """Texts to sketches."""

    def __init__(self, share: float) -> None:
        self.bands, self.rows = bands_for(share)

    def sketch(self, texts: list[str]) -> tuple[Array, Array]:
        """(a hash of each band, [n, bands] uint32; the lowest byte of each hash, [n, 256] uint8)."""
        from rensa import RMinHash

        sketches = RMinHash.digest_matrix_from_token_sets([shingles(text) for text in texts], PERMUTATIONS, SEED)
        hashes = np.array(sketches.to_rows(), np.uint32).reshape(len(texts), PERMUTATIONS)
        bands = np.zeros((len(texts), self.bands), np.uint32)
        for at in range(self.rows):  # FNV-1a over the hashes of a band
            bands = (bands ^ hashes[:, at : self.bands * self.rows : self.rows]) * np.uint32(16777619)
        return bands ^ (bands >> np.uint32(15)), hashes.astype(np.uint8)


def alike(a: Array, b: Array) -> Array:
    """The estimated overlap of rows of sketches; bytes are equal by chance once in 256."""
    return np.asarray(((a == b).mean(axis=1) - 1 / 256) / (1 - 1 / 256))


def groups(rows: Array, rank: Array, bands: list[Array], signs: Array, share: float) -> tuple[Array, Array]:
    """Rows alike, directly or through others: (row, the row of its group with the lowest rank), that one left out."""
    parent = array("q", np.arange(len(signs), dtype=np.int64).tobytes())
    for band in bands:
        for left, right in _pairs(rows, rank, band):
            for start in range(0, len(left), PAIRS):
                a, b = left[start : start + PAIRS], right[start : start + PAIRS]
                same = alike(signs[a], signs[b]) >= share
                _join(parent, a[same], b[same])
    return _leaders(np.frombuffer(parent, np.int64), rank)


def _pairs(rows: Array, rank: Array, band: Array) -> Iterator[tuple[Array, Array]]:
    """Rows that share a band: each with the next few of its group, and with the first. A part of the hashes at a time,
    so that memory stays bounded.
    """
    parts = len(rows) // BATCH + 1
    for part in range(parts):
        mine = rows if parts == 1 else rows[band[rows] % np.uint32(parts) == part]
        if not len(mine):
            continue
        key = band[mine]
        order = np.lexsort((rank[mine], key))
        mine, key = mine[order], key[order]
        for step in range(1, NEIGHBOURS + 1):
            same = key[step:] == key[:-step]
            if not same.any():
                break
            yield mine[step:][same], mine[:-step][same]
        first = np.maximum.accumulate(np.where(np.r_[True, key[1:] != key[:-1]], np.arange(len(key)), 0))
        far = np.arange(len(key)) - first > NEIGHBOURS
        yield mine[far], mine[first[far]]


def _join(parent: array[int], left: Array, right: Array) -> None:
    """Groups that grow: union-find, paths halved on the way up."""
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        left_root, right_root = _root(parent, a), _root(parent, b)
        if left_root != right_root:
            parent[max(left_root, right_root)] = min(left_root, right_root)


def _root(parent: array[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _leaders(parent: Array, rank: Array) -> tuple[Array, Array]:
    root = parent
    while not np.array_equal(higher := root[root], root):
        root = higher
    inner = np.flatnonzero(root != np.arange(len(root)))
    rows = np.union1d(inner, root[inner])
    rows = rows[np.lexsort((rows, rank[rows], root[rows]))]
    starts = np.r_[True, root[rows][1:] != root[rows][:-1]][: len(rows)]
    leader = rows[np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))]
    return rows[~starts], leader[~starts]
