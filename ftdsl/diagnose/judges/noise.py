"""What the loss does from step to step: spikes, oscillation, the order of rows."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.judge import Change, Ill, judge
from ftdsl.diagnose.judges.shared import UNKNOWN, change, hard_text, text
from ftdsl.diagnose.statistics import correlation, f_score, jitter, least_squares, share, spread

WINDOW = 20
"""Steps before a step that it is held against."""
SHORTEST = 24
"""Steps of a run in which a spike can be told from noise."""
HEIGHT = 8.0
"""Standard deviations of its neighbours that a spike is above them: PaLM's and OLMo's spikes are far beyond; 6 and fewer are
met by the noise of small batches.
"""
TALL = 1.5
"""Times the median before: such a spike needs no other proof. A loss cannot exceed what knowing nothing costs (the logarithm of
the vocabulary) by much: where it is half of that already, as with letters or with a batch of many sound rows, spikes are lower.
"""
LOW = 1.12
"""Times the median before: lower ones are never called spikes."""
APART = 1.5
"""Times the highest step that is no spike, for those below TALL: noise with a heavy tail has no gap between its highest values.
"""

FURTHER = 1.35
"""The same of means over 5 steps and more, whose noise is near normal."""


def spikes(losses: Series, window: int = WINDOW) -> list[tuple[int, int, float]]:
    """Where a loss leaps: (first index, index of its end, median before). A step of a spike does not count for the next ones.

    A value that is 1.5 times the median of the window before it, and above it by 8 standard deviations of its jitter, or of that
    of the run's second half where it is more (20 values alone often have less), at least 3 % of the median. Or values that are
    1.12 times it, and above it by 8 standard deviations of the window's jitter alone (one of them; 5 the others), where they are
    half as high again, in standard deviations of the run (5 at least; 3.5, of 1.5 times), as the other steps, and rare. The spike
    ends where the loss is near that median again; what never comes back half of the way is no spike: harder rows, or a run that
    is lost.
    """
    values = losses.values
    calm = values[:window]
    distinct = sorted(set(values))
    digit = min((b - a for a, b in pairwise(distinct)), default=0.0)  # of losses printed with few digits, the last one
    late = share(values, 0.5)
    usual = jitter(late) / median(late) if len(late) > 3 and median(late) > 0 else 0.0
    tall: list[tuple[int, int, float]] = []
    low: list[tuple[int, int, float]] = []
    lowest, highest, others = math.inf, 0.0, 0.0
    at = len(calm)
    while at < len(values):
        if values[at] <= 1.1 * calm[-1] and values[at] <= 1.1 * calm[0]:  # no spike: cheap, and nearly always so
            calm = [*calm[1:], values[at]]
            at += 1
            continue
        middle = median(calm)
        above = values[at] - middle
        local = max(jitter(calm), 0.015 * middle, digit)
        narrow = max(local, usual * middle)
        deviation = max(narrow, 0.03 * middle)
        is_tall = middle > 0 and values[at] > TALL * middle and above > HEIGHT * deviation
        least = 3.5 if values[at] > TALL * middle else 5.0
        if is_tall or (middle > 0 and values[at] > LOW * middle and above > max(5 * local, least * narrow)):
            end = at + 1
            while end < len(values) and values[end] > middle + 3 * deviation:
                end += 1
            height = max(values[at:end]) - middle
            recovers = median(values[end - min(5, end - at) : end]) < middle + 0.5 * height
            if end < len(values) or recovers or len(values) - at <= window // 4:
                (tall if is_tall else low).append((at, end, middle))
                lowest = lowest if is_tall else min(lowest, height / narrow)
                highest = max(highest, 0.0 if is_tall else height / local)
            at = end
            continue
        others = max(others, above / narrow if narrow else 0.0)
        calm = [*calm[1:], values[at]]
        at += 1
    rare = len(low) <= max(3, len(values) // 50)
    certain = rare and (tall or highest > HEIGHT) and lowest > APART * others
    return sorted([*tall, *low]) if low and certain else tall


def averaged_spikes(losses: Series, every: int, evals: Series | None = None) -> list[tuple[int, int, float]]:
    """The same in a log of means over `every` steps: values above the line through the values on both sides, which is near them
    where nothing leaps. The first descent is curved: the first two values do not count. evals: held-out losses.
    """
    values = losses.values

    def evaluated(at: int) -> float:
        """The held-out loss after a value against that before it; 0 where it is not known."""
        if evals is None or at < 1:
            return 0.0
        before = [value for step, value in zip(evals.steps, evals.values, strict=True) if step < losses.steps[at - 1]]
        after = [value for step, value in zip(evals.steps, evals.values, strict=True) if step >= losses.steps[at]]
        return after[0] / before[-1] if before and after and before[-1] > 0 else 0.0

    if len(values) < 10:
        return []
    rest: dict[tuple[int, int], tuple[float, float]] = {}
    peaks: set[tuple[int, int]] = set()
    for width in (1, 2):
        for at in range(2, len(values) - width):
            before, after = values[at - 1], values[at + width]
            lines = [before + (after - before) * (step + 1) / (width + 1) for step in range(width)]
            above = min(value - line for value, line in zip(values[at : at + width], lines, strict=True))
            rest[at, width] = (above, sum(lines) / width)
            if min(values[at : at + width]) - max(before, after) > 0.5 * above:  # a stair is not above both sides
                peaks.add((at, width))
    usual = {width: spread([excess for (_, own), (excess, _) in rest.items() if own == width]) for width in (1, 2)}
    spikes_by_height: list[tuple[int, int, float]] = []
    for (at, width), (excess, line) in sorted(rest.items(), key=lambda item: -item[1][0]):
        tall = line > 0 and excess > max(0.15, 0.5 / math.sqrt(every)) * line and excess > 10 * usual[width]
        if tall and (at, width) in peaks and not any(at < end and own < at + width for own, end, _ in spikes_by_height):
            spikes_by_height.append((at, at + width, line))
    singles = {at: rest[at, width] for at, width in peaks if width == 1 and rest[at, width][1] > 0}
    return (
        sorted(spikes_by_height)
        or _apart(singles, usual[1], len(values), APART if every < 5 else FURTHER)
        or _leap(values, usual[1], evaluated)
    )


def _apart(
    peaks: Mapping[int, tuple[float, float]], usual: float, count: int, further: float
) -> list[tuple[int, int, float]]:
    """Single means that are above the line through their neighbours by 5 % and 5 standard deviations, so many times as much as
    all others, and rare: one step's spike, after it was averaged. Of at least 30 means (of fewer, the deviation is not known),
    after the first eighth of the run (which is curved). peaks: index -> height above the line, the line.
    """
    ranked = sorted(((excess, at, line) for at, (excess, line) in peaks.items() if at >= count // 8), reverse=True)
    if count < 30 or usual <= 0:
        return []
    for rank, (lowest, _, line) in enumerate(ranked[: max(3, count // 50)], 1):
        if lowest < 5 * usual or lowest < 0.05 * line:
            return []
        if rank == len(ranked) or lowest > further * ranked[rank][0]:
            return sorted((at, at + 1, own) for _, at, own in ranked[:rank])
    return []


def _leap(values: list[float], usual: float, evaluated: Callable[[int], float]) -> list[tuple[int, int, float]]:
    """A leap up by 30 % and more of the three values before, that half of it at least is recovered from (three quarters, where
    nothing is held out): longer than the width of a line through neighbours. Weights that were spoiled show in the held-out loss
    too; where that goes on falling, harder rows came.
    """
    for at in range(3, len(values) - 2):
        before = median(values[at - 3 : at])
        height = values[at] - min(before, values[at - 1])
        if before > 0 and values[at] > 1.3 * before and height > 6 * max(usual, 0.03 * before):
            ratio = evaluated(at)
            if 0 < ratio < 1.02:
                continue
            limit = values[at] - (0.5 if ratio else 0.75) * height
            end = next((own for own in range(at + 1, len(values)) if values[own] < limit), 0)
            if end:
                return [(at, end, before)]
    return []


def leaps(curves: Curves) -> list[tuple[int, int, float]]:
    """Where the loss leaps, in single steps or in means over several."""
    losses = curves.loss.finite
    candidates = spikes(losses, min(WINDOW, len(losses) // 3)) if len(losses) >= SHORTEST else []
    candidates = [leap for leap in candidates if not _other_rows(curves, leap)]
    candidates = candidates or (averaged_spikes(losses, curves.every, curves.evals.finite) if curves.every > 1 else [])
    return _rare(losses.values, [leap for leap in candidates if _counts(curves, leap)])


OFTEN = 0.03
"""Share of a run's steps that are half as high as a spike, at most; more of them are what its rows are like."""


def _rare(values: list[float], candidates: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Leaps that few other steps of the run are half as high as: six, or 3 %."""
    if not candidates:
        return []
    covered = {step for at, end, _ in candidates for step in range(at, end)}
    others = sorted(_above_neighbours(values, at) for at in range(len(values)) if at not in covered)
    most = max(6, OFTEN * len(values))
    return [
        (at, end, middle)
        for at, end, middle in candidates
        if len(others) - bisect_right(others, 0.5 * (max(values[at:end]) / middle - 1)) <= most
    ]


KNOWN = 0.05
"""Nats per token: rows that are known by heart. One that is not costs what it did at the start, and is no spike."""
TAIL = 4.0
"""Times what a tenth of the steps around exceed: with a tail that falls exponentially, one step in 10,000 is that high (ln 10,000
is 4 times ln 10). Rows of some kinds of data differ so much; deviations by the median do not show it.
"""
AROUND = 40
"""Steps on each side that a leap is held against in this."""


def _counts(curves: Curves, leap: tuple[int, int, float]) -> bool:
    """Whether a leap is more than rows that differ, a row that is not known yet, or a rate that starts again."""
    values = curves.loss.finite.values
    at, end, middle = leap
    top = max(values[at:end])
    if (middle < KNOWN and top < 0.5 * curves.first) or _restarts(curves, curves.loss.finite.steps[at]):
        return False
    low = min(values[max(0, at - 3) : at], default=middle)
    limit = low + 0.15 * (top - low)  # rise and recovery are of the leap too
    while at > 0 and values[at - 1] > limit:
        at -= 1
    while end < len(values) and values[end] > limit:
        end += 1
    near = [*range(max(0, at - AROUND), at), *range(end, min(len(values), end + AROUND))]
    excess = sorted(_above_neighbours(values, own) for own in near)
    return len(excess) < 10 or top / middle - 1 > TAIL * excess[int(0.9 * len(excess))]


def _above_neighbours(values: Sequence[float], at: int) -> float:
    """How far a value is above the median of those around it, as a share; as many on both sides, for a descent to be none."""
    half = min(5, at, len(values) - 1 - at)
    usual = median(values[at - half : at + half + 1])
    return values[at] / usual - 1 if usual > 0 else 0.0


def _restarts(curves: Curves, step: int) -> bool:
    """Whether the schedule starts again around a step: the rate rises to half of its peak and more, from half of that and less,
    which it had fallen to."""
    rates = curves.rates
    at = bisect_left(rates.steps, step)
    near = max(2, len(rates) // 40)
    now = rates.values[max(0, at - near) : at + 2]
    low = min(now, default=0.0)
    before = rates.values[: max(0, at - near) + 1]
    risen = bool(now) and max(now[now.index(low) :]) > max(2 * low, 0.5 * curves.peak_rate)
    return risen and max(before, default=0.0) > 2 * low


def _other_rows(curves: Curves, leap: tuple[int, int, float]) -> bool:
    """Whether a leap that lasts is not in the held-out loss that was measured meanwhile: harder rows came, weights are sound."""
    losses, evals = curves.loss.finite, curves.evals.finite
    start, end = losses.steps[leap[0]], losses.steps[min(leap[1], len(losses)) - 1]
    at = bisect_left(evals.steps, start + 1)
    meanwhile = [value for step, value in zip(evals.steps[at:], evals.values[at:], strict=True) if step <= end]
    return bool(meanwhile) and at > 0 and median(meanwhile) < 1.02 * evals.values[at - 1]


@judge("FD301", "events")
def loss_spikes(curves: Curves) -> Ill | None:
    """What it does: finds losses that leap far above their neighbours, and come back. One step: its rows. Several steps that
    recover slowly: an update that was too large (rate, a stale second moment, a restart).
    Why it matters: a batch of broken rows pulls the weights; a large update can cost thousands of steps, or the run.
    Threshold: 1.5 times the median of the 20 steps before, and 8 standard deviations of their jitter above it. Or 1.12 times (a
    loss cannot rise far above what knowing nothing costs, and a row is one of many in its batch), where they are rare and half as
    high again, in standard deviations, as any other step. Where means over n steps are logged, a step's spike is an n-th of its
    height: one or two values in a row that are above the line through their neighbours by 10 standard deviations of such
    differences, and by 50 % of it over the square root of n (15 % at least), and come back; or, of 30 means and more, by 5
    standard deviations and 5 %, where they are rare and a third (half, of less than 5 steps) higher than all others.
    Never: what is below 4 times the height that a tenth of the 80 steps around exceed, or what 3 % of all steps (six, of few)
    are half as high as (rows that differ so much); a loss below 0.05 nats (rows known by heart) that stays below half of the
    first; a rate that a schedule starts again.
    What to do: look at the rows of that step (`ftc diagnose RUN --rows spikes`) and drop them (`--drop`); clip gradients (the
    handbook: cut off at 5 times); skip or roll back.
    Source: Chowdhery et al. 2022 (PaLM); OLMo 2, spike score; the handbook, pathology of gradients; measured
    """
    losses = curves.loss.finite
    rises = leaps(curves)
    if not rises:
        return None
    long = [(at, end, middle) for at, end, middle in rises if (end - at) * curves.every >= 4 and end - at > 1]
    worst = max(rises, key=lambda spike: max(losses.values[spike[0] : spike[1]]) / spike[2])
    evidence = []
    for at, end, middle in sorted(sorted(rises, key=lambda spike: -losses.values[spike[0]])[:5]):
        top = max(losses.values[at:end])
        lasts = f", {end - at} steps long" if end - at > 1 else ""
        evidence.append(f"step {losses.steps[at]}: loss {text(top)} where {text(middle)} was usual{lasts}")
    if (norm := _norm_at(curves, losses.steps[worst[0]])) > 3:
        evidence.append(f"gradient norm {norm:.2g} times the usual at step {losses.steps[worst[0]]}")
    count = f"{len(rises)} spikes" if len(rises) > 1 else "a spike"
    if long:
        return Ill(f"{count} of the loss, recovered from over several steps: an update was too large", tuple(evidence), 0.85,
                   ("optim.lr", "optim.clip", "optim.schedule"), (Change("clip gradients", "optim.clip", "1.0"),
                    Change("halve the rate", "optim.lr", "", 0.5)), losses.steps[worst[0]])  # fmt: skip
    return Ill(f"{count} of the loss at single steps: look at the rows of those steps", tuple(evidence), 0.85,
               ("data", "optim.clip"), (Change("clip gradients", "optim.clip", "0.5"),), losses.steps[worst[0]])  # fmt: skip


def _norm_at(curves: Curves, step: int) -> float:
    """The gradient norm of a step against the median of the 20 before; 0 where it is not known."""
    grads = curves.grads.finite
    at = bisect_left(grads.steps, step)
    before = grads.values[max(0, at - WINDOW) : at]
    return grads.values[at] / median(before) if before and at < len(grads) and median(before) > 0 else 0.0


SWING = 0.02
"""Share of the loss that an order of rows makes it swing by, at least: of thousands of logged means less is certain too, and no
fault. Rows of one kind and another differ by 1 % and more.
"""


@judge("FD303", "noise", "held-out")
def order_of_rows(curves: Curves) -> Ill | None:
    """What it does: finds a pattern of the loss that repeats with every epoch.
    Why it matters: the rows come in the same order each time (not shuffled, or sorted): batches are alike inside, and the
    model swings from one kind of row to the next.
    Threshold: after division by its mean over one epoch, the changes of the loss from step to step correlate with those an
    epoch later by more than 0.6, and by 4 standard errors; two epochs of at least 6 logged steps, and 12 steps more. Of means
    over several steps, 2.5 and more an epoch over 2.5 epochs: what is left of a parabola and a sawtooth that leads down (the
    stairs of FD205) is fitted by a sine and a cosine of one epoch, by 4.5 standard errors, or differs between 12 (or 6) parts of
    the epoch more than within them (analysis of variance, by 3.5 standard deviations), and
    swings by 2 % of the loss. Not where it swings with every 50 steps: `group_by_length` does that.
    What to do: shuffle (`loader { order = random }`), or mix the sources.
    Source: measured (docs/diagnose.md); Bengio et al. 2009 for when an order is wanted
    """
    losses = curves.loss.finite
    if len(losses) < 12 or not curves.steps_per_epoch or _grouped_by_length(curves):
        return None
    if curves.every > 1 and (wave := _wave(curves)) > SWING * curves.last:
        evidence = (
            f"the loss swings by {text(wave)} with each epoch ({curves.steps_per_epoch:.0f} steps)",
            f"over {curves.epochs:.3g} epochs",
        )
        return Ill("the rows come in the same order in every epoch", evidence, 0.7, ("loader.order", "loader", "data"))
    between = (losses.steps[-1] - losses.steps[0]) / (len(losses) - 1)
    period = round(curves.steps_per_epoch / between)
    if period < 6 or len(losses) / period < 2.2:
        return None
    values, half = losses.values, period // 2
    if min(values) <= 0:  # no loss of tokens: it cannot be divided by its mean
        return None
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    middles = range(half, len(values) - period + half)
    means = [(sums[at - half + period] - sums[at - half]) / period for at in middles]
    if not min(means) > 0:  # so large a value before that the others are lost in the sum
        return None
    rest = [values[at] / mean - 1 for at, mean in zip(middles, means, strict=True)]
    leaps = [after - before for before, after in pairwise(rest)]  # without what is left of the trend
    pairs = len(leaps) - period
    if pairs < 12:
        return None
    repeats = max(correlation(leaps[:-lag], leaps[lag:]) for lag in (period - 1, period, period + 1))
    if repeats < max(0.6, 4 / math.sqrt(pairs)):
        return None
    evidence = (f"changes of the loss correlate with those an epoch ({period * between:.0f} steps) later by {repeats:.2f}",
                f"over {curves.epochs:.3g} epochs")  # fmt: skip
    return Ill("the rows come in the same order in every epoch", evidence, 0.9, ("loader.order", "loader", "data"))


GROUPED = 50
"""Optimizer steps whose rows the Trainer sorts by length, where it is told to (`group_by_length`; trainer_pt_utils.py:
get_length_grouped_indices): the longest first, again and again from the start of each epoch on.
"""


def _grouped_by_length(curves: Curves) -> bool:
    """Whether the loss swings with every 50 steps, more than with the epoch: rows are in groups of like lengths, and these in
    another order each time.
    """
    if curves.config.get("group_by_length"):
        return True
    losses, every, period = curves.loss.finite, curves.every, curves.steps_per_epoch
    if GROUPED / every < 2.5 or period < 2.5 * GROUPED or losses.steps[-1] < 4 * GROUPED:
        return False
    first = len(losses) // 10  # after the first descent
    steps, values = losses.steps[first:][-3000:], losses.values[first:][-3000:]
    centre = sum(steps) / len(steps)
    within = [(step - (every + 1) / 2) % period for step in steps]  # groups begin anew with each epoch
    waves = [
        [turn(2 * math.pi * at / length) for at in within]
        for length in (GROUPED, period)
        for turn in (math.sin, math.cos)
    ]
    trend = [[1.0] * len(steps), [step / centre - 1 for step in steps], [(step / centre - 1) ** 2 for step in steps]]
    fitted, errors = least_squares([*trend, *waves], values)
    if not fitted or not all(errors[3:]):
        return False
    certain = max(abs(fitted[3]) / errors[3], abs(fitted[4]) / errors[4]) > 4.5
    swing = math.hypot(*fitted[3:5])
    return certain and 2 * swing > SWING * curves.last and swing > math.hypot(*fitted[5:7])


def _wave(curves: Curves) -> float:
    """Nats by which the loss swings with the epoch, from top to bottom; 0 where that is not sure: a wave of one epoch fits what
    is left of a parabola, or means of the parts of an epoch (12, or 6) differ from each other more than within.
    """
    losses, period, every = curves.loss.finite, curves.steps_per_epoch, curves.every
    if period / every < 2.5 or curves.epochs < 2.5 or len(losses) < 10:
        return 0.0
    middles = [(step - (every - 1) / 2 - losses.steps[0] + every) / period for step in losses.steps]
    kept = [(middle, value) for middle, value in zip(middles, losses.values, strict=True) if middle >= 0.9][-3000:]
    if len(kept) < 10:
        return 0.0
    at, values = [middle for middle, _ in kept], [value for _, value in kept]
    centre = sum(at) / len(at)
    columns = [
        [1.0] * len(at),
        [step - centre for step in at],
        [(step - centre) ** 2 for step in at],
        [1 / step for step in at],
    ]
    saw = [step % 1 - 0.5 for step in at]
    stairs, _ = least_squares([*columns, saw], values)
    if stairs and stairs[-1] > 0:  # rows that are known again: FD205; stairs that lead up are an order
        columns.append(saw)
    waves = [[turn(2 * math.pi * step) for step in at] for turn in (math.sin, math.cos)]
    fitted, errors = least_squares([*columns, *waves], values)
    if fitted and errors[-1] and errors[-2]:
        swing = 2 * math.hypot(fitted[-1], fitted[-2])
        if max(abs(fitted[-1]) / errors[-1], abs(fitted[-2]) / errors[-2]) > 4.5:
            return swing
    trend, _ = least_squares(columns, values)
    rest = [value - sum(factor * column[row] for factor, column in zip(trend, columns, strict=True))
            for row, value in enumerate(values)]  # fmt: skip
    return max((_between_parts(at, rest, parts, len(columns)) for parts in (12, 6)), default=0.0) if trend else 0.0


def _between_parts(at: Sequence[float], rest: Sequence[float], parts: int, fitted: int) -> float:
    """The largest difference between the means of so many parts of an epoch (fewer, where fewer values are in one), where an
    analysis of variance finds that they differ, by 3.5 standard deviations; else 0. fitted: columns that were fitted before.
    """
    parts = min(parts, round((len(at) - 1) / (at[-1] - at[0])), len(at) // 3)
    groups: dict[int, list[float]] = {}
    for step, value in zip(at, rest, strict=True):
        groups.setdefault(int(step % 1 * parts), []).append(value)
    means = [sum(group) / len(group) for group in groups.values()]
    between = sum(len(group) * own**2 for group, own in zip(groups.values(), means, strict=True))
    within = sum((value - own) ** 2 for group, own in zip(groups.values(), means, strict=True) for value in group)
    score = f_score(between, within, len(groups) - 1, len(at) - len(groups) - fitted)
    return max(means) - min(means) if score > 3.5 else 0.0


@judge("FD302", "noise", "fit")
def oscillating(curves: Curves) -> Ill | None:
    """What it does: finds a loss that jumps up and down from step to step by a fifth of itself and more.
    Why it matters: the gradient of so few rows is mostly noise: the run needs more steps, and ends at a worse loss.
    Threshold: in the second half the standard deviation around the trend is above 40 % of the loss, which ends above a tenth of
    the first; above 20 % where the gradient norm shakes by more than 25 % too. Or it is above 5 % while
    the loss stays above 2.5 nats and hardly falls in the last 40 % of the steps, and the gradient norm has fallen to 60 % and
    less: the model has given up the rows for the frequencies of their tokens, which is what so noisy an update leaves. Then the
    config must say that a step is one row, or the noise must be above 10 %. At least 50 logged steps, 12 in the second case.
    Isolated spikes do not count. Noise alone is no fault: rows differ, and a small batch with a rate that suits it shows 10 to
    25 %. Means over n steps have 1/sqrt(n) of it; a standard error of that estimate is taken off.
    What to do: a larger `batch.global` (the handbook: batch too small, more accumulation), or a lower rate.
    Source: McCandlish et al. 2018 (gradient noise scale); the handbook, pathology of gradients; measured
    """
    losses = curves.loss.finite
    if len(losses) < 12 or curves.last <= 0 or curves.of_preferences:
        return None
    size = curves.step_noise / curves.last
    if curves.every > 1:  # means hold outliers, and of few of them the deviation is known by a standard error only
        size *= 1 - 1.2 / math.sqrt(len(losses) / 2)
    late = list(curves.late_grads)
    shaking = jitter(late) / median(late) if len(late) > 6 and median(late) > 0 else 0.0
    alone = size > (0.05 if curves.batch == 1 else 0.1) and _gave_up(curves)
    # of fewer losses the noise is known to a third only; what lost more has learned: few tokens are left, and they differ
    enough = len(losses) >= 50 and curves.last > 0.1 * curves.first
    if not (alone or (enough and (size > 0.4 or (size > 0.2 and shaking > 0.25)))):
        return None
    values = share(losses.values, 0.5)
    evidence = [
        f"from step to step the loss differs by {100 * size:.0f} % (second half: {text(min(values))} to {text(max(values))})"
    ]
    if curves.batch:
        evidence.append(f"{curves.batch} row{'s' if curves.batch > 1 else ''} in a step of one process")
    if shaking:
        evidence.append(f"the gradient norm by {100 * shaking:.0f} %")
    return Ill("the loss oscillates: the batch is too small for this rate", tuple(evidence), 0.75,
               ("batch.global", "batch.accumulate", "optim.lr", "batch"), (Change("four times the batch", "batch.global", "", 4),
                Change("halve the rate", "optim.lr", "", 0.5)))  # fmt: skip


def _gave_up(curves: Curves) -> bool:
    """A loss that stays high and hardly falls any more, of a model whose gradients have become small."""
    if curves.last < UNKNOWN or change(curves)[0] < -0.08 or hard_text(curves):
        return False
    early, late = curves.early_grads, curves.late_grads
    return bool(early) and bool(late) and median(late) < 0.6 * median(early)
