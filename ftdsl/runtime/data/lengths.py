"""How long the rows are: every row in characters, and in tokens all of them or a sample, as the tokenizer allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from .choosing import Choice, lowest
from .table import Table
from .texts import Texts
from .tokens import Counting, at_hand, name_of

SAMPLE = 20_000
"""Rows of a sample: the share of rows above a length is then off by at most 0.7% (two standard deviations)."""
SAMPLE_CHARS = 16_000_000
"""Characters of a sample, which keeps counting within some seconds."""
QUANTILES = 1000
"""Steps of the table of lengths: one row in a thousand."""
BATCH = 256
Array = np.ndarray[Any, Any]


def quantiles(values: Array) -> list[int]:
    """Lengths that 0, 1, … 1000 rows in a thousand do not exceed."""
    ordered = np.sort(values)
    at = np.linspace(0, len(ordered) - 1, QUANTILES + 1).round().astype(np.int64)
    return [int(value) for value in ordered[at]]


def to_count(spec: dict[str, Any], table: Table, choice: Choice) -> set[int]:
    """Rows whose tokens are to be counted when they are seen again; none when all are, or none can be."""
    if len(table.column("tokens")) or not at_hand(spec.get("tokenizer"))[0]:
        return set()
    rows = np.flatnonzero(choice.copies > 0)
    each = max(1.0, float(table.column("chars")[rows[: 1 << 20]].mean()))
    most = max(1000, min(SAMPLE, int(SAMPLE_CHARS / each)))
    return set(lowest(table.column("digest"), rows, most, spec["seed"] ^ 0x70C).tolist())


def measured(spec: dict[str, Any], table: Table, choice: Choice, seen: dict[int, bytes]) -> dict[str, Any]:
    """`{"unit": "tokens", "by": …, "of": rows, "exact": …, "quantiles": […], "why": …}`; quantiles is None without."""
    facts: dict[str, Any] = {"unit": "tokens", "by": name_of(spec.get("tokenizer")), "quantiles": None, "of": 0}
    facts["why"] = at_hand(spec.get("tokenizer"))[1]
    facts["exact"] = not facts["why"]
    counted = table.column("tokens")
    if len(counted):
        values = np.asarray(counted[choice.copies > 0])
    elif seen:
        counting, texts = Counting(spec), Texts(spec)
        facts["why"], facts["exact"] = counting.why, counting.exact
        values = _counted(counting, texts, [seen[row] for row in sorted(seen)]) if counting.exact else np.zeros(0)
    else:
        return facts
    if len(values):
        facts |= {"quantiles": quantiles(values), "of": len(values)}
    return facts


def _counted(counting: Counting, texts: Texts, lines: list[bytes]) -> Array:
    counts = []
    for start in range(0, len(lines), BATCH):
        rows = [texts.of(orjson.loads(line)) for line in lines[start : start + BATCH]]
        counts.append(counting.count(["\n".join((*questions, *answers)) for questions, answers in rows]))
    return np.concatenate(counts)
