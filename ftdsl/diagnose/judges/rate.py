"""Rates that end too early, gradients that are always clipped, runs that become slower or larger."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.judge import Change, Ill, judge
from ftdsl.diagnose.judges.shared import change, flat_and_high, late_by_rate, text
from ftdsl.diagnose.statistics import correlation, share, slope


@judge("FD401", "rate")
def rate_ends_early(curves: Curves) -> Ill | None:
    """What it does: finds a rate that is next to nothing for the last quarter of a run or more.
    Why it matters: those steps cost and teach nothing: the schedule counts fewer steps than the run has.
    Threshold: the rate is below 1 % of its peak for more than a quarter of the run, at its end.
    What to do: let the schedule end with the run (`duration`), or a floor for the rate.
    Source: transformers `get_cosine_schedule_with_warmup`: its steps are counted at the start; Hu et al. 2024 (WSD)
    """
    rates = curves.rates
    if len(rates) < 8 or not curves.peak_rate:
        return None
    count = next((back for back, value in enumerate(reversed(rates.values)) if value > 0.01 * curves.peak_rate), 0)
    if count <= 0.25 * len(rates) or count >= 0.98 * len(rates):
        return None
    step = rates.steps[-count]
    losses = curves.loss.finite
    at_step = median(losses.before(step).values[-5:] or [curves.first])
    evidence = (f"rate below 1 % of its peak of {text(curves.peak_rate)} from step {step} of {rates.steps[-1]} on",
                f"loss {text(at_step)} there, {text(curves.last)} at the end")  # fmt: skip
    changes = (Change("a rate that lasts", "optim.schedule", "cosine"),)
    keys = ("optim.schedule", "duration", "optim.lr")
    return Ill(f"a plateau from step {step}: the rate ends long before the run", evidence, 0.9, keys, changes, step)


@judge("FD402", "fit", "clip")
def plateau(curves: Curves) -> Ill | None:
    """What it does: finds a loss that fell, and has not moved for the last 40 % of the run although it is high and the rate
    is not.
    Why it matters: the model is stuck: at the frequencies of its tokens, most often by a rate that is too high.
    Threshold: above 2.5 nats after a fall of 15 % and more, the loss changes by less than 2 % in the part of the run in which the
    last 40 % of the sum of all rates is spent (a rate that decays makes every loss flat), within 2 standard errors or by less
    than 1 %. Of first losses below 5 nats (few kinds of tokens, as letters) it must also keep 72 %: less is more than the
    frequencies of tokens.
    What to do: half the rate, or a tenth; a longer warm-up; more of the model trained.
    Source: SageMaker Debugger LossNotDecreasing; Smith 2018 (rates and plateaus)
    """
    if not flat_and_high(curves) or curves.config.get("stage") == "pt" or (curves.gap or 0) < -0.08:
        return None
    steps = curves.loss.finite.steps
    step = steps[_flat_from(curves)]
    moved = 100 * change(curves, late_by_rate(curves))[0]
    evidence = (f"loss {text(curves.first)} -> {text(curves.last)}, flat from step {step} of {steps[-1]}",
                f"change over the last 40 % of the sum of all rates: {moved:+.1f} %")  # fmt: skip
    return Ill(f"a plateau from step {step}, far from learned", evidence, 0.6, ("optim.lr", "optim.warmup", "lora.rank"),
               (Change("a third of the rate", "optim.lr", "", 0.3),), step)  # fmt: skip


def _flat_from(curves: Curves) -> int:
    """Where the trend first comes near what it ends at."""
    limit = 1.02 * curves.last + curves.noise / 2
    at = next((at for at, value in enumerate(curves.trend) if value <= limit), 0)
    return min(len(curves.loss.finite) - 1, int(at * len(curves.loss.finite) / len(curves.trend)))


@judge("FD403", "clip")
def always_clipped(curves: Curves) -> Ill | None:
    """What it does: finds gradients that are clipped hard at nearly every step.
    Why it matters: the length of every update is then the bound's, not the gradient's: with SGD the rate is another than it
    says, with Adam large and small batches count alike.
    Threshold: the config's `max_grad_norm` is exceeded at 95 % of the steps after the first fifth, at the median by 5
    times, and by 15 times where the bound is the usual 1 or more (norms of 1 to 10 are, and Adam does not mind).
    What to do: a bound near the usual norm (the handbook: 1.0), or find what makes the gradients large.
    Source: Pascanu et al. 2013; SageMaker Debugger; the handbook, clipped gradients
    """
    bound = curves.number("max_grad_norm")
    norms = share(curves.grads.finite.values, 0.2) if len(curves.grads.finite) >= 8 else []
    if not bound or not norms:
        return None
    clipped = sum(norm > bound for norm in norms) / len(norms)
    if clipped < 0.95 or median(norms) < (5 if bound < 1 else 15) * bound:
        return None
    evidence = (f"gradient norm {text(median(norms))} at the median, the bound is {text(bound)}",
                f"clipped at {100 * clipped:.0f} % of the steps after the first fifth")  # fmt: skip
    value = f"{median(norms):.2g}" if median(norms) < 1 else "1.0"
    changes = (Change("a bound near the usual norm", "optim.clip", value),) if bound < 1 else ()
    return Ill("gradients are clipped at nearly every step", evidence, 0.8, ("optim.clip", "optim.lr"), changes)


@judge("FD501", "speed")
def slower_and_slower(curves: Curves) -> Ill | None:
    """What it does: finds steps that take longer and longer.
    Why it matters: something grows or is used up: a loader that falls behind, memory that swaps, a card that throttles.
    Threshold: the run in eight parts, each by the time that a twentieth of its steps (the third, of few) stay under (another
    program on the machine delays many steps, a run that slows down delays all): from the second part on at least 5 of 6 take
    longer than the one before, they lie on a line (correlation 0.93), and that line doubles; or all 6 do, on a line (0.97) that
    rises by 40 %. At least 8 logged times, over 10 seconds. Where no time is logged, but seconds a step or tokens a second are,
    these.
    What to do: more `loader.workers`, look at temperature and at memory; sort long rows out of the end.
    Source: SageMaker Debugger, StepOutlier and CPUBottleneck; measured
    """
    clock = curves.series("elapsed").finite.values
    seconds = _seconds_per_step(curves.series("elapsed").finite) or _logged_seconds(curves)
    if len(seconds) < 8 or (clock[-1] - clock[0] if clock else sum(seconds) * curves.every) < 10:
        return None
    size = len(seconds) / 8
    pieces = [sorted(seconds[int(part * size) : int((part + 1) * size)]) for part in range(8)]
    parts = [piece[max(len(piece) // 20, min(2, len(piece) // 5))] for piece in pieces][
        1:
    ]  # the first holds the start: compiling, caches
    rising = sum(b > a for a, b in pairwise(parts))
    per_part, _ = slope(range(len(parts)), parts)
    start = sum(parts) / len(parts) - per_part * (len(parts) - 1) / 2
    end = start + per_part * (len(parts) - 1)
    straight = correlation(range(len(parts)), parts)
    if not (
        (rising >= 5 and straight > 0.93 and end > 2 * start) or (rising == 6 and straight > 0.97 and end > 1.4 * start)
    ):
        return None
    evidence = (f"{text(max(start, parts[0]))} s a step at first, {text(end)} s at the end",
                f"{rising} of 6 parts of the run take longer than the one before")  # fmt: skip
    return Ill("steps take longer and longer", evidence, 0.7, ("loader.workers", "loader", "hardware"))


def _logged_seconds(curves: Curves) -> list[float]:
    """Seconds of each step where trainers log them, or their inverse."""
    if seconds := curves.series("seconds").finite.values:
        return seconds
    speeds = [value for value in curves.series("throughput").finite.values if value > 0]
    return [max(speeds) / value for value in speeds] if speeds else []


def _seconds_per_step(elapsed: Series) -> list[float]:
    """Seconds of each step. Where times are rounded (to seconds by LLaMA-Factory), so many steps together that rounding is
    below a
    fifth.
    """
    pairs = list(zip(elapsed.steps, elapsed.values, strict=True))
    rounded = next(
        (unit for unit in (1.0, 0.1, 0.01) if all(_is_multiple(value, unit) for _, value in pairs[-50:])), 0.0
    )
    seconds, (at, then) = [], pairs[0] if pairs else (0, 0.0)
    least = max(3 * rounded, min(10 * rounded, (pairs[-1][1] - then) / 20)) - 1e-6 if pairs else 0.0
    for step, value in pairs[1:]:
        if value - then >= least and step > at:
            seconds.append((value - then) / (step - at))
            at, then = step, value
    return seconds


def _is_multiple(value: float, unit: float) -> bool:
    return abs(value / unit - round(value / unit)) < 1e-6


@judge("FD502", "memory")
def memory_creeps(curves: Curves) -> Ill | None:
    """What it does: finds memory that grows through the whole run.
    Why it matters: it ends out of memory, hours in: tensors that are kept (metrics, graphs), a cache without an end.
    Threshold: of eight parts of the run each holds more than the one before, at least 6 times, and the last 20 % more than
    the second; or all of them do, on a line (correlation 0.97), and the last holds 5 % more. At least 12 logged values.
    What to do: fewer rows kept by evaluation (`evaluate.accumulate`), a bound for the tokenizer's cache, packing of equal
    lengths.
    Source: PyTorch, understanding CUDA memory usage; LLM Foundry MemoryMonitor
    """
    values = curves.series("memory").finite.values
    if len(values) < 12:
        return None
    parts = [median(share(values, part / 8, (part + 1) / 8)) for part in range(8)]
    rising, grows = sum(b > a for a, b in pairwise(parts)), parts[-1] / parts[1] if parts[1] > 0 else 0.0
    steady = rising == 7 and grows > 1.05 and correlation(range(7), parts[1:]) > 0.97
    if not steady and (rising < 6 or grows < 1.2):
        return None
    gib = 2**30
    evidence = (f"{parts[1] / gib:.2f} GiB after an eighth of the run, {parts[-1] / gib:.2f} GiB at the end",)
    return Ill("memory grows through the whole run", evidence, 0.7, ("evaluate.accumulate", "evaluate", "batch.micro"))
