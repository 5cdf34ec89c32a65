"""`python -m benchmarks.throughput CSV [--json] [--groups] [--rows]`: estimated against published tokens a second and card."""

from __future__ import annotations

import math
import sys
from collections import defaultdict

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
from ftdsl.estimate.time import time
from ftdsl.record import frozen

CONSTANTS = ("width", "ridge", "waves", "flash1", "backward", "launch", "gptq", "gptq_triton", "nf4", "link", "network",
             "overlap", "zero3", "fsdp_unit", "loss_traffic", "step")  # fmt: skip

FLAT = 0.4
"""The share of its peak rate that every run would reach by the simplest rule."""


def estimate(row: Row, kind: str) -> float:
    """Tokens a second and card."""
    return time(row.setup).tokens_per_gpu


def interval(row: Row, kind: str) -> tuple[float, float]:
    """Tokens a second and card, least and most, of nine of ten runs."""
    estimate = time(row.setup)
    quick, slow = estimate.interval
    return estimate.tokens_per_gpu * estimate.step / slow, estimate.tokens_per_gpu * estimate.step / quick


def error(row: Row) -> float:
    """The error of a row as a fraction, 1 where it cannot be read."""
    try:
        return abs(estimate(row, "") / row.number("tok_s_gpu") - 1)
    except Exception:
        return 1.0


def log_error(row: Row) -> float:
    """|log error| of a row: half as much and twice as much are equally wrong."""
    try:
        return abs(math.log(estimate(row, "") / row.number("tok_s_gpu")))
    except Exception:
        return 1.0


def peak_rate(row: Row) -> float:
    """Tokens a second at the card's 16-bit peak: six FLOP a weight and token (four where weights are frozen)."""
    one = row.setup
    a = one.architecture
    weights = a.layers * a.active_layer_linear + a.embedding
    return one.gpu.half * 1e12 / ((6 if not one.adapts else 4) * weights + 6 * a.layers * a.q * one.seq_len)


def flat(row: Row) -> float:
    """The rule of thumb: 40 % of the card's peak rate."""
    return FLAT * peak_rate(row)


PLAUSIBLE = (0.10, 0.85)
"""The share of a card's 16-bit peak that training reaches: neither end is seen in any publication."""


def share_of_peak(row: Row) -> float:
    """The estimated rate as a share of the card's 16-bit peak (fp8 products: of theirs)."""
    peak = row.setup.gpu.fp8_rate / row.setup.gpu.half if row.setup.quant == "fp8_compute" else 1.0
    return estimate(row, "") / peak_rate(row) / max(1.0, peak)


def implausible(rows: list[Row]) -> list[tuple[Row, float]]:
    """Rows whose estimate is outside of `PLAUSIBLE`, with the share."""
    shares = [(row, share_of_peak(row)) for row in rows]
    return [(row, share) for row, share in shares if not PLAUSIBLE[0] <= share <= PLAUSIBLE[1]]


@frozen
class Group:
    """Rows of the same model, card and number of cards: what choosing by the estimate would have cost."""

    name: str
    rows: list[Scored]

    @property
    def kept(self) -> float:
        """The published throughput of the row we would choose, as a part of the best published there."""
        chosen = max(self.rows, key=lambda one: one.estimated or 0.0)
        return chosen.measured / max(one.measured for one in self.rows)

    @property
    def agreement(self) -> float:
        """Kendall's rank correlation of estimates and measurements."""
        pairs = [(a, b) for i, a in enumerate(self.rows) for b in self.rows[:i]]
        signs = [_sign(a.measured - b.measured) * _sign((a.estimated or 0) - (b.estimated or 0)) for a, b in pairs]
        return sum(signs) / len(signs)


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def groups(scored: list[Scored]) -> list[Group]:
    """All groups of at least two rows, by model, card and count (memory of the card included)."""
    found: defaultdict[tuple[str, ...], list[Scored]] = defaultdict(list)
    for one in scored:
        c = one.row.cells
        found[one.row.source, c["model"], c["gpu"], c["world"]].append(one)
    return [Group(" ".join(key), rows) for key, rows in sorted(found.items()) if len(rows) > 1]


def told(found: list[Group], every: bool) -> str:
    """The groups as text: how many keep 95 % of the best, and the others (or all)."""
    good = [group for group in found if group.kept >= 0.95]
    mean = sum(group.agreement for group in found) / len(found)
    lines = [f"{len(good)} of {len(found)} groups keep 95 % of the best published; mean rank correlation {mean:.2f}"]
    for group in found:
        if every or group.kept < 0.95:
            lines.append(
                f"  {group.name:<44} {len(group.rows):>3} rows  kept {group.kept:.3f}  rank {group.agreement:+.2f}"
            )
    return "\n".join(lines)


def without_itself(rows: list[Row]) -> dict[str, list[Scored]]:
    """Each source's rows as those of a source that nobody has seen."""

    def scored(part: list[Row]) -> list[Scored]:
        return score(part, "eval_tput", "tok_s_gpu", "tput_unit", estimate, interval)

    return left_out(rows, CONSTANTS, log_error, scored, [])


def main(argv: list[str]) -> int:
    rows, options = arguments(argv, "python -m benchmarks.throughput CSV [--json] [--groups] [--rows]")
    scored = score(rows, "eval_tput", "tok_s_gpu", "tput_unit", estimate, interval)
    if "--json" in options:
        print(dump(report(scored)))
        return 0
    print(tables(report(scored)))
    if problems := unread(scored):
        print(f"\nnot read (100 % each)\n{problems}")
    if silent := assumed(scored):
        print(f"\ntaken where rows say nothing\n{silent}")
    read = [one for one in scored if one.estimated is not None]
    simple = [abs(flat(one.row) / one.measured - 1) for one in read]
    print(f"\nthe rule of thumb, {FLAT:.0%} of the peak\n{HEAD}\n{line('flat', summary(simple))}")
    odd = implausible([one.row for one in read])
    low, high = PLAUSIBLE
    print(f"\n{len(odd)} of {len(read)} estimates are below {low:.0%} or above {high:.0%} of the card's 16-bit peak")
    for row, share in odd:
        print(f"  {row.id:<20} {share:.0%}, measured {row.number('tok_s_gpu') / estimate(row, '') * share:.0%}")
    if found := groups(read):
        print(f"\nthe same model, card and count: {told(found, '--groups' in options)}")
    print(f"\neach source left out: its scores when constants and intervals know of the others alone\n{HEAD}")
    parts = {source: scores(group) for source, group in without_itself([one.row for one in scored]).items()}
    for source, part in parts.items():
        print(line(source, part))
    means = macro(parts)
    columns = {"rows": len(parts), "mape": means["macro_mape"], "median_ape": means["macro_median"]}
    print(line("mean over sources", columns | {"coverage": means["macro_coverage"]}))
    if "--rows" in options:
        for one in sorted(scored, key=lambda one: -one.error):
            print(f"  {one.row.id:<20} {one.measured:>9.1f} {one.estimated or 0:>9.1f} {100 * one.error:>7.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
