"""`python -m benchmarks.memory CSV [--json] [--rows]`: estimated against published peak memory, beside others' rules."""

from __future__ import annotations

import sys
from collections.abc import Callable

from benchmarks.anchors import ANCHORS
from benchmarks.crossing import crossed
from benchmarks.rows import Row, setup
from benchmarks.scoring import HEAD, Scored, arguments, dump, line, report, score, summary, tables, unread
from ftdsl.estimate.fit import fit
from ftdsl.estimate.memory import GIB, memory

CONSTANTS = ("context", "fragmented_static", "fragmented_dynamic", "bnb_input", "litgpt_logit")

SAFE = 0.85
"""The part of the card up to which a wrong "fits" would be unforgivable: nothing of that size fails for want of memory."""


def estimate(row: Row, kind: str) -> float:
    """GiB of the kind of figure a row publishes."""
    return memory(setup(row)).of(kind) / GIB


def error(row: Row) -> float:
    """The error of a row as a fraction, 1 where it cannot be read."""
    try:
        return abs(estimate(row, row.cells["mem_kind"].rstrip("?")) / row.number("mem_gib") - 1)
    except Exception:
        return 1.0


def beside(scored: list[Scored], rule: Callable[..., float | None]) -> tuple[list[float], list[float]]:
    """Errors of an anchor and ours on the rows the anchor can answer."""
    theirs, ours = [], []
    for one in scored:
        if one.estimated is None or (answer := rule(setup(one.row))) is None:
            continue
        theirs.append(abs(answer / GIB / one.measured - 1))
        ours.append(one.error)
    return theirs, ours


def fitting(rows: list[Row]) -> str:
    """How often "fits" and "does not fit" are right, over rows that ran and rows that failed for want of memory."""
    right, total, false, unsafe = 0, 0, [], 0
    for row in rows:
        failed = row.cells["outcome"] == "oom"
        if row.cells["quality"] == "C" or not (failed or row.cells["eval_mem"] == "1"):
            continue
        try:
            found = fit(setup(row))
        except Exception:
            found = None
        total += 1
        if found is not None and found.fits != failed:
            right += 1
            continue
        share = f" at {found.fraction:.2f} of the card" if found else ""
        false.append(f"  {row.id}: {'failed' if failed else 'ran'}, and we say otherwise{share}")
        unsafe += bool(found and failed and found.fraction <= SAFE)
    if not total:
        return "no rows"
    head = f'{right} of {total} right ({100 * right / total:.1f} %); false "fits" under {SAFE} of the card: {unsafe}'
    return "\n".join([head, *false])


def main(argv: list[str]) -> int:
    rows, options = arguments(argv, "python -m benchmarks.memory CSV [--json] [--rows]")
    scored = score(rows, "eval_mem", "mem_gib", "mem_kind", estimate)
    if "--json" in options:
        print(dump(report(scored)))
        return 0
    print(tables(report(scored)))
    if problems := unread(scored):
        print(f"\nnot read (100 % each)\n{problems}")
    print(f"\nothers on the rows they can answer, and ours there\n{HEAD}")
    for name, rule in ANCHORS.items():
        theirs, ours = beside(scored, rule)
        print(line(name, summary(theirs)), line("ours", summary(ours)), sep="\n")
    print(f"\nfits or not: {fitting(rows)}")
    print(
        f"\nwithout the source itself: its errors when {', '.join(CONSTANTS)} are fitted to the other sources\n{HEAD}"
    )
    for source, errors in crossed([one.row for one in scored], CONSTANTS, error).items():
        print(line(source, summary(errors)))
    if "--rows" in options:
        for one in sorted(scored, key=lambda one: -one.error):
            print(f"  {one.row.id:<20} {one.measured:>9.3f} {one.estimated or 0:>9.3f} {100 * one.error:>7.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
