"""What the loss does from step to step: spikes, oscillation, the order of rows."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.judge import Change, Ill, judge
from ftdsl.diagnose.judges.shared import UNKNOWN, change, text
from ftdsl.diagnose.statistics import correlation, jitter, least_squares, share, spread

WINDOW = 20
"""Steps before a step that it is held against."""
SHORTEST = 24
"""Steps of a run in which a spike can be told from noise."""
HEIGHT = 8.0
"""Standard deviations of its neighbours that a spike is above them: PaLM's and OLMo's spikes are far beyond; 6 and fewer are
met by the noise of small batches.
"""


def spikes(losses: Series, window: int = WINDOW) -> list[tuple[int, int, float]]:
    """Where a loss leaps: (first index, index of its end, median before). A step of a spike does not count for the next ones.

    A value that is 1.5 times the median of the window before it, and above it by 8 standard deviations of its jitter (at
    least 3 % of the median). The spike ends where the loss is near that median again; what never comes back half of the way is no
    spike: harder rows, or a run that is lost.
    """
    values, found = losses.values, []
    calm = values[:window]
    at = len(calm)
    while at < len(values):
        if values[at] <= 1.3 * calm[-1] and values[at] <= 1.3 * calm[0]:  # no spike: cheap, and nearly always so
            calm = [*calm[1:], values[at]]
            at += 1
            continue
        middle = median(calm)
        deviation = max(jitter(calm), 0.03 * middle)
        if middle > 0 and values[at] > 1.5 * middle and values[at] - middle > HEIGHT * deviation:
            end = at + 1
            while end < len(values) and values[end] > middle + 3 * deviation:
                end += 1
            height = max(values[at:end]) - middle
            recovers = median(values[end - min(5, end - at) : end]) < middle + 0.5 * height
            if end < len(values) or recovers or len(values) - at <= window // 4:
                found.append((at, end, middle))
            at = end
            continue
        calm = [*calm[1:], values[at]]
        at += 1
    return found


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
    for width in (1, 2):
        for at in range(2, len(values) - width):
            before, after = values[at - 1], values[at + width]
            lines = [before + (after - before) * (step + 1) / (width + 1) for step in range(width)]
            above = min(value - line for value, line in zip(values[at : at + width], lines, strict=True))
            rest[at, width] = (above, sum(lines) / width)
    usual = {width: spread([excess for (_, own), (excess, _) in rest.items() if own == width]) for width in (1, 2)}
    found: list[tuple[int, int, float]] = []
    for (at, width), (excess, line) in sorted(rest.items(), key=lambda item: -item[1][0]):
        tall = line > 0 and excess > max(0.15, 0.5 / math.sqrt(every)) * line and excess > 10 * usual[width]
        if tall and not any(at < end and own < at + width for own, end, _ in found):
            found.append((at, at + width, line))
    return sorted(found) or _leap(values, usual[1], evaluated)


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
    found = spikes(losses, min(WINDOW, len(losses) // 3)) if len(losses) >= SHORTEST else []
    found = [leap for leap in found if not _other_rows(curves, leap)]
    return found or (averaged_spikes(losses, curves.every, curves.evals.finite) if curves.every > 1 else [])


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
    Threshold: 1.5 times the median of the 20 steps before, and 8 standard deviations of their jitter above it. Where means over n
    steps are logged, a step's spike is an n-th of its height: one or two values in a row that are above the line through their
    neighbours by 10 standard deviations of such differences, and by 50 % of it over the square root of n (15 % at least), and
    come back.
    What to do: look at the rows of that step (`ftc diagnose RUN --rows spikes`) and drop them (`--drop`); clip gradients (the
    handbook: cut off at 5 times); skip or roll back.
    Source: Chowdhery et al. 2022 (PaLM); OLMo 2, spike score; the handbook, pathology of gradients; measured
    """
    losses = curves.loss.finite
    found = leaps(curves)
    if not found:
        return None
    long = [(at, end, middle) for at, end, middle in found if (end - at) * curves.every >= 4 and end - at > 1]
    worst = max(found, key=lambda spike: max(losses.values[spike[0] : spike[1]]) / spike[2])
    evidence = []
    for at, end, middle in sorted(sorted(found, key=lambda spike: -losses.values[spike[0]])[:5]):
        top = max(losses.values[at:end])
        lasts = f", {end - at} steps long" if end - at > 1 else ""
        evidence.append(f"step {losses.steps[at]}: loss {text(top)} where {text(middle)} was usual{lasts}")
    if (norm := _norm_at(curves, losses.steps[worst[0]])) > 3:
        evidence.append(f"gradient norm {norm:.2g} times the usual at step {losses.steps[worst[0]]}")
    count = f"{len(found)} spikes" if len(found) > 1 else "a spike"
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


@judge("FD302", "noise", "fit")
def oscillating(curves: Curves) -> Ill | None:
    """What it does: finds a loss that jumps up and down from step to step by a fifth of itself and more.
    Why it matters: the gradient of so few rows is mostly noise: the run needs more steps, and ends at a worse loss.
    Threshold: in the second half the standard deviation around the trend is above 40 % of the loss (of a tenth of the first,
    where the loss is lower than that); above 20 % where the gradient norm shakes by more than 25 % too. Or it is above 5 % while
    the loss stays above 2.5 nats and hardly falls in the last 40 % of the steps, and the gradient norm has fallen to 60 % and
    less: the model has given up the rows for the frequencies of their tokens, which is what so noisy an update leaves. Then the
    config must say that a step is one row, or the noise must be above 10 %. At least 50 logged steps, 12 in the second case.
    Isolated spikes do not count. Noise alone is no fault: rows differ, and a small batch with a rate that suits it shows 10 to
    25 %. Means over n steps have 1/sqrt(n) of it.
    What to do: a larger `batch.global` (the handbook: batch too small, more accumulation), or a lower rate.
    Source: McCandlish et al. 2018 (gradient noise scale); the handbook, pathology of gradients; measured
    """
    losses = curves.loss.finite
    if len(losses) < 12 or curves.last <= 0 or curves.of_preferences:
        return None
    size = curves.step_noise / max(curves.last, 0.1 * curves.first)
    late = list(curves.late_grads)
    shaking = jitter(late) / median(late) if len(late) > 6 and median(late) > 0 else 0.0
    alone = size > (0.05 if curves.batch == 1 else 0.1) and _gave_up(curves)
    enough = len(losses) >= 50  # of fewer, the noise is known to a third only
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
    if curves.last < UNKNOWN or change(curves)[0] < -0.08:
        return False
    early, late = curves.early_grads, curves.late_grads
    return bool(early) and bool(late) and median(late) < 0.6 * median(early)


@judge("FD303", "noise", "held-out")
def order_of_rows(curves: Curves) -> Ill | None:
    """What it does: finds a pattern of the loss that repeats with every epoch.
    Why it matters: the rows come in the same order each time (not shuffled, or sorted): batches are alike inside, and the
    model swings from one kind of row to the next.
    Threshold: after division by its mean over one epoch, the changes of the loss from step to step correlate with those an
    epoch later by more than 0.6, and by 4 standard errors; two epochs of at least 6 logged steps, and 12 steps more. Of means
    over several steps, 2.5 and more an epoch over 3 epochs: a sine and a cosine of one epoch fit what is left of a parabola and a
    sawtooth (the stairs of FD205), by 4.5 standard errors.
    What to do: shuffle (`loader { order = random }`), or mix the sources.
    Source: measured (docs/diagnose.md); Bengio et al. 2009 for when an order is wanted
    """
    losses = curves.loss.finite
    if len(losses) < 12 or not curves.steps_per_epoch:
        return None
    if curves.every > 1 and (wave := _wave(curves)):
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


def _wave(curves: Curves) -> float:
    """Nats by which the loss swings with the epoch, from top to bottom; 0 where that is not sure."""
    losses, period, every = curves.loss.finite, curves.steps_per_epoch, curves.every
    if period / every < 2.5 or curves.epochs < 3 or len(losses) < 12:
        return 0.0
    middles = [(step - (every - 1) / 2 - losses.steps[0] + every) / period for step in losses.steps]
    kept = [(middle, value) for middle, value in zip(middles, losses.values, strict=True) if middle >= 0.9][-3000:]
    if len(kept) < 10:
        return 0.0
    centre = sum(middle for middle, _ in kept) / len(kept)
    columns = [
        [1.0] * len(kept), [middle - centre for middle, _ in kept], [(middle - centre) ** 2 for middle, _ in kept],
        [middle % 1 - 0.5 for middle, _ in kept], [math.sin(2 * math.pi * middle) for middle, _ in kept],
        [math.cos(2 * math.pi * middle) for middle, _ in kept],
    ]  # fmt: skip
    fitted, errors = least_squares(columns, [value for _, value in kept])
    if not fitted or not errors[4] or not errors[5]:
        return 0.0
    sure = max(abs(fitted[4]) / errors[4], abs(fitted[5]) / errors[5])
    return 2 * math.hypot(fitted[4], fitted[5]) if sure > 4.5 else 0.0
