"""`python -m benchmarks.memory CSV [--json] [--rows]`: estimated against published peak memory, beside others' rules."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable

from benchmarks.anchors import ANCHORS
from benchmarks.crossing import left_out
from benchmarks.rows import Row
from benchmarks.scoring import (
    HEAD,
    Scored,
    arguments,
    assumed,
    dump,
    line,
    macro,
    report,
    score,
    scores,
    summary,
    tables,
    unread,
)
from ftdsl.estimate.fit import fit, smallest_card
from ftdsl.estimate.interval import interval as interval_of
from ftdsl.estimate.memory import GIB, memory

CONSTANTS = (
    "context",
    "collectives",
    "reserved_static",
    "reserved_dynamic",
    "reserved_streams",
    "bnb_input",
    "litgpt_logit",
)


def estimate(row: Row, kind: str) -> float:
    """GiB of the kind of figure a row publishes; of a capacity, the smallest card that would do."""
    if kind == "capacity":
        return smallest_card(row.setup)
    return memory(row.setup).of(kind) / GIB


def interval(row: Row, kind: str) -> tuple[float, float]:
    """GiB, least and most, that nine of ten runs should show. A capacity is what somebody had: from what is needed at least to
    the smallest card that would do, and what that is unsure of."""
    if kind == "capacity":
        low, _ = memory(row.setup).interval("allocated_peak")
        return low / GIB, interval_of(row.setup, "capacity", smallest_card(row.setup))[1]
    low, high = memory(row.setup).interval(kind)
    return low / GIB, high / GIB


def error(row: Row) -> float:
    """The error of a row as a fraction, 1 where it cannot be read."""
    try:
        return abs(estimate(row, row.cells["mem_kind"].rstrip("?")) / row.number("mem_gib") - 1)
    except Exception:
        return 1.0


def log_error(row: Row) -> float:
    """|log error| of a row: half as much and twice as much are equally wrong."""
    try:
        return abs(math.log(estimate(row, row.cells["mem_kind"].rstrip("?")) / row.number("mem_gib")))
    except Exception:
        return 1.0


def second_figures(rows: list[Row]) -> list[Row]:
    """Rows whose notes tell what nvidia-smi showed, as rows of that kind: never scored, but fitted to where a source that
    is left out would take all others of the kind along."""
    found = []
    for row in rows:
        if row.cells["outcome"] == "ok" and (told := re.search(r"nvidia_smi_MiB=([\d.]+)", row.cells["notes"])):
            cells = row.cells | {"mem_kind": "nvidia_smi", "mem_gib": str(float(told[1]) / 1024)}
            found.append(Row(row.id, row.source, cells))
    return found


def beside(scored: list[Scored], rule: Callable[..., float | None]) -> tuple[list[float], list[float]]:
    """Errors of an anchor and ours on the rows the anchor can answer."""
    theirs, ours = [], []
    for one in scored:
        if one.estimated is None or (answer := rule(one.row.setup)) is None:
            continue
        theirs.append(abs(answer / GIB / one.measured - 1))
        ours.append(one.error)
    return theirs, ours


def fitting(rows: list[Row]) -> str:
    """How often "fits" and "does not fit" are right, over rows that ran and rows that failed for want of memory; those whose
    settings are unclear (quality C) are left out."""
    judged = [row for row in rows if row.cells["quality"] != "C" and _ended(row)]
    if not judged:
        return "no rows"
    wrong = [line for row in judged if (line := _wrongly(row))]
    false = sum("failed" in line for line in wrong)
    right = len(judged) - len(wrong)
    return "\n".join(
        [f'{right} of {len(judged)} right ({100 * right / len(judged):.1f} %), false "fits": {false}', *wrong]
    )


def _ended(row: Row) -> bool:
    return row.cells["outcome"] == "oom" or row.cells["eval_mem"] == "1"


def _wrongly(row: Row) -> str:
    """What is wrong with our verdict on a row, or nothing."""
    failed = row.cells["outcome"] == "oom"
    try:
        found = fit(row.setup)
    except Exception as problem:
        return f"  {row.id}: {problem}"
    if found.fits != failed:
        return ""
    return f"  {row.id}: {'failed' if failed else 'ran'}, and we say otherwise at {found.fraction:.2f} of the card"


def without_itself(rows: list[Row]) -> dict[str, list[Scored]]:
    """Each source's rows as those of a source that nobody has seen."""

    def scored(part: list[Row]) -> list[Scored]:
        return score(part, "eval_mem", "mem_gib", "mem_kind", estimate, interval)

    return left_out(rows, CONSTANTS, log_error, scored, second_figures(rows))


def main(argv: list[str]) -> int:
    rows, options = arguments(argv, "python -m benchmarks.memory CSV [--json] [--rows]")
    scored = score(rows, "eval_mem", "mem_gib", "mem_kind", estimate, interval)
    if "--json" in options:
        print(dump(report(scored)))
        return 0
    print(tables(report(scored)))
    if problems := unread(scored):
        print(f"\nnot read (100 % each)\n{problems}")
    if silent := assumed(scored):
        print(f"\ntaken where rows say nothing\n{silent}")
    print(f"\nothers on the rows they can answer, and ours there\n{HEAD}")
    for name, rule in ANCHORS.items():
        theirs, ours = beside(scored, rule)
        print(line(name, summary(theirs)), line("ours", summary(ours)), sep="\n")
    print(f"\nfits or not: {fitting(rows)}")
    print(f"\neach source left out: its scores when constants and intervals know of the others alone\n{HEAD}")
    parts = {source: scores(group) for source, group in without_itself([one.row for one in scored]).items()}
    for source, part in parts.items():
        print(line(source, part))
    means = macro(parts)
    columns = {"rows": len(parts), "mape": means["macro_mape"], "median_ape": means["macro_median"]}
    print(line("mean over sources", columns | {"coverage": means["macro_coverage"]}))
    if "--rows" in options:
        for one in sorted(scored, key=lambda one: -one.error):
            print(f"  {one.row.id:<20} {one.measured:>9.3f} {one.estimated or 0:>9.3f} {100 * one.error:>7.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
