"""`python -m benchmarks.fits CSV… [--json] [--rows]`: verdicts on published runs that ran, and on those that ran out of memory.

Counted are all rows of all files, whatever their quality: how many that ran are refused (an error of `ftc check`), and how many
that failed for want of memory are called safe (no word of `ftc check`).
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, read
from ftdsl.estimate.fit import Fit, fit
from ftdsl.record import frozen

MOST_REFUSED, MOST_SAFE = 0.01, 0.02
"""What the project holds itself to: of runs that ran, of runs that failed."""


@frozen
class Verdict:
    """What is said of one row; `problem` where it cannot be read, which refuses nothing and calls nothing safe."""

    row: Row
    fit: Fit | None
    problem: str = ""

    @property
    def failed(self) -> bool:
        return self.row.cells["outcome"] == "oom"

    @property
    def refused(self) -> bool:
        return self.fit is not None and self.fit.refused

    @property
    def safe(self) -> bool:
        return self.fit is not None and self.fit.safe

    @property
    def wrong(self) -> bool:
        return self.safe if self.failed else self.refused

    def __str__(self) -> str:
        if self.fit is None:
            return f"{self.row.id}: {self.problem}"
        low, needed, high, capacity = (
            size / 2**30 for size in (self.fit.low, self.fit.needed, self.fit.high, self.fit.capacity)
        )
        outcome = "failed, called safe" if self.failed else "ran, refused"
        certain = self.fit.certain / 2**30
        band = f"{low:.1f} to {high:.1f} GiB, likely {needed:.1f}, certain {certain:.1f}, of {capacity:.0f}"
        return f"{self.row.id}: {outcome}; {band}"


def judge(row: Row) -> Verdict:
    """Never raises: a row that cannot be read has no verdict."""
    try:
        return Verdict(row, fit(row.setup))
    except Exception as problem:
        return Verdict(row, None, str(problem) or type(problem).__name__)


def judge_all(paths: list[Path]) -> list[Verdict]:
    """A verdict for each row that ended; a row that several files have counts once."""
    rows = {row.id: row for path in paths for row in read(path) if row.cells["outcome"] in ("ok", "oom")}
    return [judge(row) for row in rows.values()]


def counts(verdicts: list[Verdict]) -> dict[str, Any]:
    """`ran`: rows, refused, safe; `failed`: rows, safe, refused; each with the fraction that is wrong."""
    ran = [one for one in verdicts if not one.failed]
    failed = [one for one in verdicts if one.failed]
    return {
        "ran": _count(ran, "refused"),
        "failed": _count(failed, "safe"),
        "unread": sum(one.fit is None for one in verdicts),
    }


def _count(verdicts: list[Verdict], wrong: str) -> dict[str, Any]:
    refused, safe = sum(one.refused for one in verdicts), sum(one.safe for one in verdicts)
    bad = {"refused": refused, "safe": safe}[wrong]
    share = round(bad / len(verdicts), 6) if verdicts else 0.0
    return {"rows": len(verdicts), "refused": refused, "safe": safe, "wrong": share}


def by_source(verdicts: list[Verdict]) -> dict[str, dict[str, Any]]:
    groups: defaultdict[str, list[Verdict]] = defaultdict(list)
    for one in verdicts:
        groups[one.row.source].append(one)
    return {source: counts(group) for source, group in sorted(groups.items())}


def table(verdicts: list[Verdict]) -> str:
    """The counts by source as text."""
    head = f"  {'':<16} {'ran':>5} {'refused':>8} {'safe':>6}   {'failed':>6} {'safe':>6} {'refused':>8}"
    lines = [head]
    for name, group in {"all": counts(verdicts), **by_source(verdicts)}.items():
        ran, failed = group["ran"], group["failed"]
        lines.append(
            f"  {name:<16} {ran['rows']:>5} {ran['refused']:>8} {ran['safe']:>6}   "
            f"{failed['rows']:>6} {failed['safe']:>6} {failed['refused']:>8}"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    paths = [Path(text) for text in argv if not text.startswith("--")]
    if not paths:
        raise SystemExit("usage: python -m benchmarks.fits CSV… [--json] [--rows]")
    try:
        verdicts = judge_all(paths)
    except OSError as problem:
        raise SystemExit(f"{problem.filename}: {problem.strerror}") from None
    total = counts(verdicts)
    if "--json" in argv:
        print(json.dumps({"total": total, "by_source": by_source(verdicts)}, indent=2))
        return 0
    ran, failed = total["ran"], total["failed"]
    print(table(verdicts))
    print(
        f"\n{ran['refused']} of {ran['rows']} runs that ran are refused ({ran['wrong']:.1%}; at most {MOST_REFUSED:.0%})"
    )
    print(
        f"{failed['safe']} of {failed['rows']} runs that failed are called safe ({failed['wrong']:.1%}; at most {MOST_SAFE:.0%})"
    )
    if unread := [one for one in verdicts if one.fit is None]:
        print("\nnot read\n" + "\n".join(f"  {one}" for one in unread))
    shown = verdicts if "--rows" in argv else [one for one in verdicts if one.wrong]
    if shown:
        print("\n" + "\n".join(f"  {one}" for one in shown if one.fit is not None))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
