"""Cross-validation: the fitted constants found anew without a source or a family of models, which is then scored by them."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.rows import Row
from ftdsl.estimate import constants

Error = Callable[[Row], float]

STEPS = (0.3, 0.15, 0.05)
"""How far a constant moves in each round, as a part of itself."""


def refit(rows: list[Row], names: tuple[str, ...], error: Error) -> dict[str, float]:
    """Values of the constants that give these rows the least mean log error, by coordinate descent from the ones in use."""
    values = {name: float(getattr(constants.FITTED, name)) for name in names}
    best = _loss(rows, values, error)
    for step in STEPS:
        for name in names:
            for factor in (1 + step, 1 / (1 + step)):
                trial = values | {name: values[name] * factor}
                if (now := _loss(rows, trial, error)) < best - 1e-7:
                    best, values = now, trial
                    break
    return values


def _loss(rows: list[Row], values: dict[str, float], error: Error) -> float:
    with constants.refitted(**values):
        return sum(min(1.0, math.log1p(error(row))) for row in rows) / len(rows)


def by_source(row: Row) -> str:
    return row.source


def by_family(row: Row) -> str:
    """The family of a row's model: code and sizes of one make (`Llama`, `Qwen`, `MPT`)."""
    return row.cells["model"].split("-")[0].rstrip("0123456789.")


def crossed(
    rows: list[Row],
    names: tuple[str, ...],
    error: Error,
    beside: list[Row] | None = None,
    part: Callable[[Row], str] = by_source,
) -> dict[str, list[float]]:
    """The errors of each source (or other part) under constants fitted to the others. `beside`: rows to fit to and not to
    score. A constant that the other parts say nothing of stays as it is."""
    found = {}
    for left_out in sorted({part(row) for row in rows}):
        others = [row for row in [*rows, *(beside or [])] if part(row) != left_out]
        if not others:
            continue
        with constants.refitted(**refit(others, names, error)):
            found[left_out] = [error(row) for row in rows if part(row) == left_out]
    return found
