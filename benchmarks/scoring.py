"""Scores of estimates against measurements: absolute percentage errors by source and kind, as text or JSON."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, read, taken
from ftdsl.record import frozen

UNREADABLE = 1.0
"""The error of a row that cannot be read: 100 %."""


@frozen
class Scored:
    """One row: what was measured and estimated, and the error as a fraction; `why` when there is no estimate."""

    row: Row
    kind: str
    measured: float
    estimated: float | None
    why: str = ""

    @property
    def error(self) -> float:
        if self.estimated is None:
            return UNREADABLE
        return abs(self.estimated - self.measured) / self.measured


def summary(errors: Iterable[float]) -> dict[str, float]:
    """Rows, median and mean absolute percentage error, as fractions."""
    found = list(errors)
    if not found:
        return {"rows": 0, "median_ape": 0.0, "mape": 0.0}
    return {
        "rows": len(found),
        "median_ape": round(statistics.median(found), 6),
        "mape": round(statistics.fmean(found), 6),
    }


def report(scored: list[Scored]) -> dict[str, Any]:
    """The scores as planner.md has them: total, by_source, by_kind."""
    groups: dict[str, defaultdict[str, list[float]]] = {"by_source": defaultdict(list), "by_kind": defaultdict(list)}
    for one in scored:
        groups["by_source"][one.row.source].append(one.error)
        groups["by_kind"][one.kind].append(one.error)
    return {"total": summary(one.error for one in scored)} | {
        name: {key: summary(errors) for key, errors in sorted(group.items())} for name, group in groups.items()
    }


def score(rows: list[Row], flag: str, target: str, kind: str, estimate: Callable[[Row, str], float]) -> list[Scored]:
    """Every row whose `flag` is 1, its `target` against the estimate of its own `kind`. Nothing a row holds ends the run."""
    found = []
    for row in rows:
        if row.cells.get(flag) != "1":
            continue
        what = row.cells.get(kind, "").rstrip("?")
        try:
            if not (measured := row.number(target)):
                raise ValueError(f"{target} is {row.cells.get(target) or 'empty'}")
            found.append(Scored(row, what, measured, estimate(row, what)))
        except Exception as problem:
            found.append(Scored(row, what, 0.0, None, str(problem) or type(problem).__name__))
    return found


def line(name: str, scores: dict[str, float]) -> str:
    """One line of a table, in percent."""
    return f"  {name:<24} {scores['rows']:>5}   {100 * scores['mape']:>7.2f}   {100 * scores['median_ape']:>7.2f}"


HEAD = f"  {'':<24} {'rows':>5}   {'MAPE %':>7}   {'median %':>7}"


def tables(scores: dict[str, Any]) -> str:
    """The scores as text."""
    lines = [HEAD, line("all", scores["total"])]
    for name in ("by_source", "by_kind"):
        lines += ["", name.replace("_", " "), *(line(key, one) for key, one in scores[name].items())]
    return "\n".join(lines)


def assumed(scored: list[Scored]) -> str:
    """What was taken for cells that rows leave open, and in how many."""
    counted = Counter(
        (key, value) for one in scored if one.estimated is not None for key, value in taken(one.row).items()
    )
    return "\n".join(f"  {key} = {value}: {count} rows" for (key, value), count in counted.most_common())


def unread(scored: list[Scored]) -> str:
    """What could not be read and why."""
    return "\n".join(f"  {one.row.id}: {one.why}" for one in scored if one.estimated is None)


def arguments(argv: list[str], usage: str) -> tuple[list[Row], set[str]]:
    """Rows of the file that was named, and the options."""
    options = {text for text in argv if text.startswith("--")}
    paths = [text for text in argv if not text.startswith("--")]
    if len(paths) != 1:
        raise SystemExit(f"usage: {usage}")
    try:
        return read(Path(paths[0])), options
    except OSError as problem:
        raise SystemExit(f"{paths[0]}: {problem.strerror}") from None


def dump(scores: dict[str, Any]) -> str:
    return json.dumps(scores, indent=2)
