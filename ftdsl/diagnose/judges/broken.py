"""Runs that broke: no number, no gradient, an explosion, a loss that rises for good. Each explains the shape of its curve."""

from __future__ import annotations

import math
from itertools import accumulate
from statistics import median

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.judge import Change, Ill, judge
from ftdsl.diagnose.judges.shared import LEAST_PATH, WIDE, change, text
from ftdsl.diagnose.statistics import jitter, smooth

SHAPE = ("fit", "held-out", "noise", "rate", "events", "clip", "preferences")
NEAR_ZERO = 0.05
"""Nats: below, a loss may be rounded to 0.0 when it is printed."""
EXPLODED = 10.0
"""Nats: above what a model with random weights has; a loss that exploded is above."""
KNOWS_NOTHING = 13.0
"""Nats: the logarithm of 440,000, which is more than the vocabulary of any model. A mean over steps that is above holds steps
that were far above what knowing nothing costs.
"""
LOWER_RATE = Change("lower the rate ten times", "optim.lr", "", 0.1)
CLIP = Change("clip gradients", "optim.clip", "1.0")


def _first_bad(series: Series) -> int:
    """The first step whose value is no number; 0 where all are."""
    return next((s for s, v in zip(series.steps, series.values, strict=True) if not math.isfinite(v)), 0)


@judge("FD101", "broken", *SHAPE)
def nothing_to_learn(curves: Curves) -> Ill | None:
    """What it does: finds a loss that is no number, or exactly 0, from the first step on, with a gradient norm of 0.
    Why it matters: no token of any row has a label (all of them are cut off, masked or ignored), so nothing is trained, and
    the engine ends with status 0. The Trainer's own filter logs such a NaN as 0.0.
    Threshold: all of the first 5 losses are NaN or 0, and no gradient norm is above 0; with NaN it may be, where it is a number
    (a loss of routers is added to the NaN, and its gradient is sound). Where means over several steps are logged, a norm that
    is NaN speaks for weights that broke within them.
    What to do: raise `max_len` above the length of the prompts; check the columns and the template. If rows do have answers,
    the model itself computes NaN: write `precision = bf16`, or another `attention` (`sdpa`, `eager`).
    Source: cross entropy over no token is 0/0 (torch); transformers `logging_nan_inf_filter`; LLaMA-Factory 0.9.5, measured
    """
    start = [] if curves.of_preferences else curves.loss.values[:5]
    empty = [value for value in start if math.isnan(value) or value == 0]
    grads = [value for value in curves.grads.values[:5] if math.isfinite(value) and value > 0]
    if not start or len(empty) < len(start) or (grads and 0 in start) or _broke_at_once(curves):
        return None
    shown = "NaN" if math.isnan(start[0]) else "exactly 0"
    norm = (f"gradient norm {text(curves.grads.values[0])}",) if len(curves.grads) else ()
    return Ill(
        f"there is nothing to learn: the loss is {shown} from the first step on",
        (f"loss {shown} at steps {curves.loss.steps[0]} to {curves.loss.steps[len(start) - 1]}", *norm),
        0.95 if all(map(math.isfinite, curves.grads.values[:5])) else 0.8,
        ("max_len", "train_on", "data", "template", "precision", "attention"),
        (Change("let the answers fit: twice the length", "max_len", "", 2),),
        curves.loss.steps[0],
    )


def _broke_at_once(curves: Curves) -> bool:
    """Whether the first logged loss is no number, is a mean over several steps, and the norm after them is none either."""
    norms = curves.grads.values
    return curves.every > 1 and bool(norms) and not math.isfinite(curves.loss.values[0]) and not math.isfinite(norms[0])


@judge("FD102", "broken", *SHAPE)
def exploding(curves: Curves) -> Ill | None:
    """What it does: finds a loss or gradient norm that grows by orders of magnitude; what comes after (NaN, a dead model
    whose gradient is exactly 0 and whose loss never changes) follows from it.
    Why it matters: the weights are lost; a checkpoint of after that step is of no use.
    Threshold: a gradient norm above 1,000 times that of the start, or a loss above 10 nats and 100 times the start; or NaN
    after a loss of 20 times the start, or of twice what was usual in the last 3 steps before, or after a mean over steps of more
    than 13 nats; or a gradient norm of exactly 0 after the loss had grown. Where means over several steps are logged: loss and
    gradient norm are no numbers from the first of them on.
    What to do: lower the rate, clip gradients at 1 (the handbook: exploding gradients come of a rate that is too high, or of
    no clipping), and start again from before that step.
    Source: Pascanu et al. 2013; SageMaker Debugger ExplodingTensor; the handbook, pathology of gradients
    """
    losses, grads = curves.loss.finite, curves.grads.finite
    if (
        not curves.of_preferences
        and _broke_at_once(curves)
        and not any(math.isfinite(value) for value in curves.loss.values[1:])
    ):
        begins = f"loss and gradient norm are no numbers from the first logged value (step {curves.loss.steps[0]}) on"
        return Ill("gradients explode within the first steps", (begins,), 0.6, ("optim.lr", "optim.clip", "optim"),
                   (LOWER_RATE, CLIP), curves.loss.steps[0])  # fmt: skip
    if len(losses) < 1 or losses.values[0] <= 0 or curves.of_preferences:
        return None
    top, norm = max(losses.values), max(grads.values, default=0.0)
    growth = top / losses.values[0]
    growth_norm = norm / grads.values[0] if len(grads) and grads.values[0] > 0 else 0.0
    tail = curves.grads.values[-max(5, len(curves.grads) // 10) :]
    dead = bool(tail) and all(value == 0 for value in tail) and max(grads.values, default=0) > 0
    lost = _first_bad(curves.loss)
    growth = growth if top > EXPLODED else 1.0
    leaps = bool(lost) and (_leaps(losses.before(lost).values) or (curves.every > 1 and top > KNOWS_NOTHING))
    if not (growth > 100 or (lost and growth > 20) or (dead and growth > 1.5) or growth_norm > 1000 or leaps):
        return None
    at = losses.steps[losses.values.index(top)]
    evidence = [f"loss {text(losses.values[0])} -> {text(top)} at step {at}"]
    if growth_norm > 10:
        where = grads.steps[grads.values.index(norm)]
        evidence.append(f"gradient norm {text(grads.values[0])} -> {text(norm)} at step {where}")
    if lost:
        evidence.append(f"the loss is no number from step {lost} on")
    if dead:
        evidence.append(
            f"at the end the gradient norm is exactly 0 and the loss stays at {text(curves.last)}: a dead model"
        )
    unclipped = "max_grad_norm" in curves.config and not curves.number("max_grad_norm")
    changes = (CLIP, LOWER_RATE) if unclipped else (LOWER_RATE, CLIP)
    return Ill("gradients explode", tuple(evidence), 0.95, ("optim.clip", "optim.lr") if unclipped else ("optim.lr", "optim"),
               changes, at)  # fmt: skip


def _leaps(losses: list[float]) -> bool:
    """Whether the last losses before NaN are far above what was usual before them."""
    return len(losses) > 1 and max(losses[-3:]) > 2 * max(median(losses[:-1][-20:]), losses[0])


@judge("FD103", "broken", *SHAPE)
def not_a_number(curves: Curves) -> Ill | None:
    """What it does: finds a loss that was a number, and is none (or exactly 0, where NaN is filtered) from a step on.
    Why it matters: every later update is lost. A loss that grew before it is FD102; without that it is most often fp16, a row
    with broken values, or a kernel.
    Threshold: the first loss or gradient norm that is no number, in a run whose first losses are numbers.
    What to do: train in bf16; stop at NaN (`guard { nan = stop }`); look at the rows of that step; resume before it.
    Source: PyTorch Lightning `detect_nan`; LLM Foundry NaN monitor
    """
    lost, norm = _first_bad(curves.loss), _first_bad(curves.grads)
    zero = 0
    if not lost and not curves.of_preferences:
        zero = _zero_from(curves.loss)
    at = min((step for step in (lost, norm, zero) if step), default=0)
    isolated = not lost and not zero and norm and curves.grads.values and math.isfinite(curves.grads.values[-1])
    if not at or isolated:  # fp16's scaler skips a step whose gradient overflows, and goes on
        return None
    before = curves.loss.before(at).finite
    what = "loss" if at == lost else "gradient norm" if at == norm else "loss"
    shown = "is exactly 0" if at == zero and at != norm else "is no number"
    evidence = [f"the {what} {shown} from step {at} on"]
    if len(before):
        evidence.append(f"loss {text(before.values[-1])} at step {before.steps[-1]}, and it did not grow before")
    half = bool(curves.config.get("fp16"))
    changes = (Change("train in bf16", "precision", "bf16"),) if half else ()
    return Ill(f"the {what} is lost at step {at}", tuple(evidence), 0.95, ("precision", "optim.lr", "data"),
               (*changes, LOWER_RATE), at)  # fmt: skip


def _zero_from(losses: Series) -> int:
    """The step from which the loss is exactly 0 to the end, at least 5 values, after it was not near 0 (a loss of rows that are
    known by heart is printed as 0.0 too); 0 where there is none.
    """
    count = next((back for back, value in enumerate(reversed(losses.values)) if value != 0), len(losses))
    if not 5 <= count < len(losses):
        return 0
    before = [value for value in losses.values[:-count][-3:] if math.isfinite(value)]
    return losses.steps[-count] if before and median(before) > NEAR_ZERO else 0


@judge("FD104", "broken", *SHAPE)
def no_gradient(curves: Curves) -> Ill | None:
    """What it does: finds a run whose gradient norm is exactly 0 (or whose rate is 0) from the first step on.
    Why it matters: nothing is trained: the adapter is not connected, all weights are frozen, or checkpointing cuts the graph.
    Threshold: every gradient norm is 0, or every logged rate is 0, while the loss is a number. Not where it falls by a tenth and
    by 3 times its noise: layerwise optimizers drop each gradient before its norm is taken.
    What to do: check `lora { targets }` and what is frozen; with checkpointing, inputs must require gradients.
    Source: peft `enable_input_require_grads`; SageMaker Debugger UnchangedTensor
    """
    grads = curves.grads.finite.values
    keys: tuple[str, ...]
    if len(curves.loss.finite) >= 5 and curves.fall > 0.1 and curves.start - curves.last > 3 * curves.noise:
        return None
    if len(grads) >= 5 and not any(grads):
        what, keys = f"the gradient norm is exactly 0 at all of {len(grads)} steps", ("lora.targets", "freeze", "lora")
    elif len(curves.rates) >= 5 and not any(curves.rates.values):
        what, keys = f"the rate is 0 at all of {len(curves.rates)} steps", ("optim.lr", "optim.schedule")
    else:
        return None
    return Ill("nothing is trained", (what, f"loss {text(curves.first)} -> {text(curves.last)}"), 0.95, keys,
               (), curves.loss.steps[0])  # fmt: skip


def _rise(curves: Curves) -> tuple[int, float]:
    """Where the loss first rose well above its start, and how high: (0, 0) where it did not.

    Well above: by a tenth, and by 6 times the noise: that of the first steps, or of the second half (a rise is no noise). The
    loss of preferences has no noise at first, where policy and reference are equal: there it is that of the second half.
    """
    values = smooth(curves.shape, 3)
    start = curves.first
    losses = curves.loss.finite.values
    noise = min(jitter(losses[: max(12, len(losses) // 20)]), max(curves.noise, 0.02 * start), 0.2 * start)
    if (
        0 < curves.last < start
    ):  # 12 values often have less noise than the run has; in proportion to the loss, it stays the same
        noise = max(noise, min(0.8 * curves.noise * start / curves.last, 0.2 * start))
    limit = max(1.1 * start, start + 6 * (curves.noise if curves.of_preferences else noise))
    if (top := max(values)) <= limit:
        return 0, 0.0
    scale = len(curves.loss.finite) / len(values)
    return curves.loss.finite.steps[int(values.index(top) * scale)], top


@judge("FD105", "broken", *SHAPE)
def rate_too_high(curves: Curves) -> Ill | None:
    """What it does: finds a loss that rises above where it began and does not come back, or that rises for good after it
    fell.
    Why it matters: the run ends worse than it began, or with what a far smaller rate would pass in a few steps.
    Threshold: the loss rises above its start by a tenth (and 6 standard deviations) and ends above half of it; or it ends
    above 1.5 times its lowest, 6 standard deviations above it, without a spike that it recovers from, while the held-out loss
    does not fall (rows that become harder are no divergence); or means over several steps begin above 13 nats, which knowing
    nothing does not cost, and fall soon, after rates that add up to 0.02; or a quarter of the run has a rate of 0.05 and more
    (0.1, where the optimizer is not known) with Adam, and ends above 1 nat: where the first steps were averaged, their rise is
    not in the log.
    What to do: lower the rate ten times; with a warm-up.
    Source: SageMaker Debugger LossNotDecreasing; the handbook, exploding gradients: a rate that is too high; Kingma and Ba 2015
    (the length of Adam's steps is bounded by the rate)
    """
    if len(curves.loss.finite) < 5 or curves.first <= 0 or curves.of_answers:
        return None
    at, top = _rise(curves) if len(curves.loss.finite) >= 10 else (0, 0.0)
    start = curves.first
    rate = (f"peak rate {text(curves.peak_rate)}",) if curves.peak_rate else ()
    if at and curves.last > 0.5 * start and _could_move(curves, at):
        evidence = (f"loss {text(start)} -> {text(top)} at step {at}, {text(curves.last)} at the end", *rate)
        return Ill("the rate is too high: the loss rises above its start", evidence, 0.9,
                   ("optim.lr", "optim.warmup"), (LOWER_RATE,), at)  # fmt: skip
    summed = curves.number("gradient_accumulation_steps", 1) > 1  # some versions log the sum over micro-batches
    if curves.every > 1 and curves.first > KNOWS_NOTHING > curves.last and not summed and _may_have_leapt(curves):
        evidence = (
            f"mean loss {text(start)} over the first {curves.every} steps, {text(curves.last)} at the end",
            *rate,
        )
        return Ill("the rate is too high: the loss was above what knowing nothing costs", evidence, 0.75,
                   ("optim.lr", "optim.warmup"), (LOWER_RATE,), curves.loss.steps[0])  # fmt: skip
    if _replaces_weights(curves):
        held = _usual_rate(curves)
        evidence = (f"rate {text(held)}: Adam moves a weight by about the rate in a step, and weights are about 0.02 wide",
                    f"loss {text(start)} -> {text(curves.last)}")  # fmt: skip
        return Ill("the rate is too high: every step replaces the weights", evidence, 0.7, ("optim.lr", "optim.warmup"),
                   (LOWER_RATE,), curves.loss.steps[0])  # fmt: skip
    if len(curves.loss.finite) < 10:
        return None
    trend = curves.trend
    low = trend.index(min(trend))
    end = median(curves.shape[-max(5, len(curves.shape) // 5) :])
    wide = max(curves.noise, 0.02 * end)
    scale = len(curves.loss.finite) / len(trend)
    step = curves.loss.finite.steps[int(low * scale)]
    if (
        end > 1.5 * trend[low]
        and end - trend[low] > 6 * wide
        and not _falling(curves)
        and not _harder_rows(curves, step)
    ):
        evidence = (f"loss {text(trend[low])} at step {step}, {text(end)} at the end, and it stays there", *rate)
        return Ill(f"the loss diverges after step {step}", evidence, 0.85, ("optim.lr", "optim.clip"),
                   (LOWER_RATE, CLIP), step)  # fmt: skip
    return None


def _could_move(curves: Curves, step: int) -> bool:
    """Whether the rates until a step add up to what Adam needs to change anything; else a rise is noise."""
    rates = curves.rates.before(step + 1)
    return not len(rates) or curves.by_sgd or sum(rates.values) * curves.every > LEAST_PATH


def _may_have_leapt(curves: Curves) -> bool:
    """Whether a first mean of more than any vocabulary costs can be that of weights that a rate spoiled: the rates until then
    must have sufficed for it, and it is over soon. Else the loss counts in other units: a sum over micro-batches, several losses,
    a model that was never trained to give such answers (mT5's begin at 25).
    """
    if len(curves.rates) and not curves.by_sgd and max(curves.rates.values[:2]) * curves.every < WIDE:
        return False
    values = curves.loss.finite.values
    above = next((at for at, value in enumerate(values) if value < KNOWS_NOTHING), len(values))
    return above <= 2 or max(values[:above]) > 1.1 * values[0]


REPLACES = 0.05
"""Rate at which a step of Adam is as long as a weight is wide (initialisation: 0.02), twice and more."""
NOT_ADAM = ("sgd", "adafactor", "muon", "lion", "rmsprop", "adagrad", "schedule_free_sgd", "lomo", "badam", "ademamix")


def _usual_rate(curves: Curves) -> float:
    """The rate that a quarter of the run was above: not that of a single step."""
    return sorted(curves.rates.values)[int(0.75 * len(curves.rates))] if len(curves.rates) else 0.0


def _replaces_weights(curves: Curves) -> bool:
    """Whether the rate alone is beyond what Adam can train weights with, and the loss is not low in spite of it. The optimizer
    must be known, or the rate twice as high: SGD and Adafactor count in other units, and prompts are trained with rates of 0.03
    to 0.3.
    """
    optimizer = str(curves.config.get("optim") or ("adamw" if "learning_rate" in curves.config else ""))
    if any(name in optimizer for name in NOT_ADAM) or "prompt" in str(curves.config.get("finetuning_type", "")):
        return False
    if _usual_rate(curves) < (1 if optimizer else 2) * REPLACES or curves.last <= 1 or curves.of_preferences:
        return False
    if optimizer:
        return True
    return not _learns(curves) if curves.every > 1 else _leaps_early(curves)  # SGD's rates are as high


def _learns(curves: Curves) -> bool:
    """Whether the loss falls from what knowing nothing costs, and by a sixth still at the end."""
    total, still = change(curves)
    return curves.first < KNOWS_NOTHING and not still and total < -0.15


def _leaps_early(curves: Curves) -> bool:
    """Whether the loss rose by a seventh above the lowest before it, in the first tenth of the run: weights that are replaced
    lose what they had.
    """
    values = curves.loss.finite.values
    start = values[: max(10, len(values) // 10)]
    return any(value > 1.15 * low for value, low in zip(start[1:], accumulate(start, min), strict=False))


def _harder_rows(curves: Curves, step: int) -> bool:
    """Whether the held-out loss went on falling while the training loss rose: other rows came, and the model is sound. Without
    evaluation: whether the gradient norm stays what it was; where weights were spoiled it grows with the loss.
    """
    evals = curves.evals.finite
    before = [value for own, value in zip(evals.steps, evals.values, strict=True) if own <= step]
    after = [value for own, value in zip(evals.steps, evals.values, strict=True) if own > step]
    if before and after:
        return median(after[-3:]) < 1.02 * before[-1]
    norms = [
        value for own, value in zip(curves.grads.finite.steps, curves.grads.finite.values, strict=True) if own >= step
    ]
    usual = median(curves.grads.finite.before(step).values[-20:] or [0.0])
    return bool(norms) and usual > 0 and max(norms) < 3 * usual and curves.last < 0.6 * curves.first


def _falling(curves: Curves) -> bool:
    """Whether the loss falls at the end, as it does after a spike that it recovers from."""
    tail = curves.trend[-max(6, len(curves.trend) // 4) :]
    return tail[-1] < 0.85 * max(tail)


@judge("FD106", "rate")
def warmup_too_short(curves: Curves) -> Ill | None:
    """What it does: finds a loss that rises above its start in the first steps, and recovers.
    Why it matters: the first updates at a high rate spoil what the model knew; Adam's second moments are not settled there.
    Threshold: within the first fifth of the run the loss rises above its start by a tenth (and 6 standard deviations), and it
    ends below half of the start.
    What to do: a warm-up of 3 to 10 % of the steps, or half the rate.
    Source: Goyal et al. 2017; Liu et al. 2020 (RAdam); the handbook's 14B example warms up over 5 %
    """
    if len(curves.loss.finite) < 12 or curves.first <= 0 or curves.of_answers:
        return None
    at, top = _rise(curves)
    steps = curves.loss.finite.steps
    if not at or at - steps[0] > 0.2 * (steps[-1] - steps[0]):
        return None
    start = curves.first
    evidence = [f"loss {text(start)} -> {text(top)} at step {at}, {text(curves.last)} at the end"]
    rates = curves.rates
    if len(rates):
        peak = rates.steps[rates.values.index(curves.peak_rate)]
        evidence.append(f"the rate is at its peak of {text(curves.peak_rate)} from step {peak} on")
    return Ill("the warm-up is too short, or the rate too high for it", tuple(evidence), 0.8,
               ("optim.warmup", "optim.lr"), (Change("warm up over a twentieth of the steps", "optim.warmup", "5%"),
                Change("halve the rate", "optim.lr", "", 0.5)), at)  # fmt: skip
