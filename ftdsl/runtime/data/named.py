"""Rows that a recipe names to be left out, with its reason: by content, or by file and line."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checking import REASONS
from .reporter import Reporter
from .surveying import Span
from .table import Table

DIGITS = 12
"""Hexadecimal digits of a row's hash that are written and compared."""


def leave_out(spec: dict[str, Any], table: Table, spans: list[Span], reporter: Reporter) -> dict[int, str]:
    """Mark the rows that `drop_rows` names, equal ones too; their reasons by row. A row that is not there is a warning.

    An entry: `where` (`inputs/a.jsonl:17`) and `reason`, and `hash` where the row is told by its content, whatever its line.
    """
    entries = spec.get("drop_rows") or ()
    reasons: dict[int, str] = {}
    if not entries or not table.rows:
        return reasons
    limited = any(source.get("limit") is not None for source in spec["sources"])  # the row may be behind
    why, digest = table.column("why"), table.column("digest")
    for entry in entries:
        if entry.get("hash"):
            rows = np.flatnonzero((digest >> np.uint64(64 - 4 * DIGITS)) == np.uint64(int(entry["hash"], 16)))
        else:
            rows = _at(entry["where"], table, spans)
        rows = rows[why[rows] == 0]
        if not len(rows) and not limited:
            text = f"{entry['where'].removeprefix('inputs/')} is named in `drop_rows`, and there is no such row"
            reporter.warning(spec["where"], text, "drop_rows", code="FT524")
        why[rows] = REASONS.index("named")
        reasons |= dict.fromkeys(rows.tolist(), entry.get("reason", ""))
    return reasons


def _at(where: str, table: Table, spans: list[Span]) -> np.ndarray[Any, Any]:
    """The row at a position of a file."""
    positions = table.column("position")
    for span in spans:
        if where.startswith(span.file.name):
            for row in range(span.start, span.end):
                if span.file.where(int(positions[row])) == where:
                    return np.array([row])
    return np.zeros(0, np.int64)
