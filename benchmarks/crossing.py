"""Fitting and cross-validation: constants found anew without a source or a family of models, which is then scored by them.

The objective is the mean over sources of their mean |log error|, so that a source with many rows does not decide, with a price
for moving a constant off what physics expects of it (`constants.PRIORS`). `python -m benchmarks.crossing MEMORY.csv
THROUGHPUT.csv` prints the values that fit all rows best.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Row, read
from benchmarks.scoring import Scored
from ftdsl.estimate import constants, interval

Error = Callable[[Row], float]

STEPS = (0.3, 0.15, 0.05)
"""How far a constant moves in each round, as a part of itself."""

PRICE = 0.002
"""What a constant costs that lies one spread off its expected value, in mean |log error|: its square beyond."""

WORST = 1.0
"""|log error| beyond which a row pulls no harder: a row that was read wrongly decides nothing."""


def refit(rows: list[Row], names: tuple[str, ...], error: Error) -> dict[str, float]:
    """Values of the constants that fit these rows best, by coordinate descent from the expected ones."""
    values = {name: constants.PRIORS[name][0] for name in names}
    best = _loss(rows, values, error)
    for step in STEPS:
        for _ in range(2):
            for name in names:
                for factor in (1 + step, 1 / (1 + step)):
                    trial = values | {name: values[name] * factor}
                    if (now := _loss(rows, trial, error)) < best - 1e-7:
                        best, values = now, trial
                        break
    return values


def _loss(rows: list[Row], values: dict[str, float], error: Error) -> float:
    sources: defaultdict[str, list[float]] = defaultdict(list)
    with constants.refitted(**values):
        for row in rows:
            sources[row.source].append(min(WORST, error(row)))
    fit = sum(sum(errors) / len(errors) for errors in sources.values()) / len(sources)
    return fit + sum(_price(name, value) for name, value in values.items())


def _price(name: str, value: float) -> float:
    expected, spread = constants.PRIORS[name]
    return PRICE * (math.log(value / expected) / math.log1p(spread)) ** 2


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
    value: Error | None = None,
) -> dict[str, list[float]]:
    """The errors of each source (or other part) under constants fitted to the others; `value`: something else than errors.
    `beside`: rows to fit to and not to score. A constant that the other parts say nothing of stays what is expected of it."""
    found = {}
    for left_out in sorted({part(row) for row in rows}):
        others = [row for row in [*rows, *(beside or [])] if part(row) != left_out]
        if not others:
            continue
        with constants.refitted(**refit(others, names, error)):
            found[left_out] = [(value or error)(row) for row in rows if part(row) == left_out]
    return found


def left_out(
    rows: list[Row], names: tuple[str, ...], error: Error, score: Callable[[list[Row]], list[Scored]], beside: list[Row]
) -> dict[str, list[Scored]]:
    """Each source scored as one that nobody has seen: constants fitted to the others, and intervals as if no row had the
    frameworks and cards that only this source has. The structure of the estimator stays as it is."""
    found = {}
    for source in sorted({row.source for row in rows}):
        own = [row for row in rows if row.source == source]
        others = [row for row in [*rows, *beside] if row.source != source]
        if not others:
            continue
        values = refit(others, names, error)
        with constants.refitted(**values), interval.without(*_only(own, others)):
            found[source] = score(own)
    return found


def _only(own: list[Row], others: list[Row]) -> tuple[set[str], set[str]]:
    """Frameworks and cards that no other row has."""
    frameworks = {row.setup.framework for row in own} - {row.setup.framework for row in others}
    return frameworks, {row.setup.card for row in own} - {row.setup.card for row in others}


def main(argv: list[str]) -> int:
    from benchmarks import memory, throughput

    if len(argv) != 2:
        raise SystemExit("usage: python -m benchmarks.crossing MEMORY.csv THROUGHPUT.csv")
    peaks, rates = read(Path(argv[0])), read(Path(argv[1]))
    scored = [row for row in peaks if row.cells["eval_mem"] == "1"]
    scored += memory.second_figures(scored)
    searched = refit(scored, memory.CONSTANTS, memory.log_error)
    searched |= refit(
        [row for row in rates if row.cells["eval_tput"] == "1"], throughput.CONSTANTS, throughput.log_error
    )
    for name, value in searched.items():
        print(
            f"  {name:<20} {value:.4g}   expected {constants.PRIORS[name][0]:.4g}   in use {getattr(constants.FITTED, name):.4g}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
