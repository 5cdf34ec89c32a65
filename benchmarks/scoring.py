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
    interval: tuple[float, float] = (0.0, 0.0)

    @property
    def error(self) -> float:
        if self.estimated is None:
            return UNREADABLE
        return abs(self.estimated - self.measured) / self.measured

    @property
    def covered(self) -> bool:
        """Whether the measurement lies in the stated interval; what cannot be read lies in none."""
        return self.estimated is not None and self.interval[0] <= self.measured <= self.interval[1]


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
    """The scores as planner.md has them: total, by_source, by_kind. The total has the means over sources too, so that a source
    with many rows does not decide: of their medians and of their mean errors; and how many measurements lie in the interval."""
    by_source = {name: scores(group) for name, group in grouped(scored, lambda one: one.row.source).items()}
    by_kind = {name: scores(group) for name, group in grouped(scored, lambda one: one.kind).items()}
    return {"total": scores(scored) | macro(by_source), "by_source": by_source, "by_kind": by_kind}


def grouped(scored: list[Scored], key: Callable[[Scored], str]) -> dict[str, list[Scored]]:
    """By a key, in its order."""
    groups: defaultdict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[key(one)].append(one)
    return dict(sorted(groups.items()))


def scores(scored: list[Scored]) -> dict[str, float]:
    """Errors and coverage of a group."""
    covered = [one.covered for one in scored]
    return summary(one.error for one in scored) | {"coverage": round(statistics.fmean(covered), 6) if covered else 0.0}


def macro(by_source: dict[str, dict[str, float]]) -> dict[str, float]:
    """Means over sources."""
    columns = {"macro_median": "median_ape", "macro_mape": "mape", "macro_coverage": "coverage"}
    return {
        name: round(statistics.fmean(one[column] for one in by_source.values()), 6) if by_source else 0.0
        for name, column in columns.items()
    }


Estimate = Callable[[Row, str], float]
Interval = Callable[[Row, str], tuple[float, float]]


def score(
    rows: list[Row], flag: str, target: str, kind: str, estimate: Estimate, interval: Interval | None = None
) -> list[Scored]:
    """Every row whose `flag` is 1, its `target` against the estimate of its own `kind`. Nothing a row holds ends the run."""
    found = []
    for row in rows:
        if row.cells.get(flag) != "1":
            continue
        what = row.cells.get(kind, "").rstrip("?")
        try:
            if not (measured := row.number(target)):
                raise ValueError(f"{target} is {row.cells.get(target) or 'empty'}")
            ends = interval(row, what) if interval else (0.0, 0.0)
            found.append(Scored(row, what, measured, estimate(row, what), "", ends))
        except Exception as problem:
            found.append(Scored(row, what, 0.0, None, str(problem) or type(problem).__name__))
    return found


def line(name: str, scores: dict[str, float]) -> str:
    """One line of a table, in percent."""
    text = f"  {name:<24} {scores['rows']:>5}   {100 * scores['mape']:>7.2f}   {100 * scores['median_ape']:>7.2f}"
    return f"{text}   {100 * scores['coverage']:>9.1f}" if "coverage" in scores else text


HEAD = f"  {'':<24} {'rows':>5}   {'MAPE %':>7}   {'median %':>7}   {'inside 90 %':>9}"


def tables(scores: dict[str, Any]) -> str:
    """The scores as text."""
    total = scores["total"]
    means = {"rows": len(scores["by_source"]), "mape": total["macro_mape"], "median_ape": total["macro_median"]}
    lines = [HEAD, line("all", total), line("mean over sources", means | {"coverage": total["macro_coverage"]})]
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
