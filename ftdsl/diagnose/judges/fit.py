"""Whether the model learned what it should: too much of its rows, too little, or something else."""

from __future__ import annotations

from itertools import accumulate
from statistics import mean, median

from ftdsl.diagnose.curves import Curves
from ftdsl.diagnose.judge import Change, Ill, judge
from ftdsl.diagnose.judges.shared import (
    LEARNED_NOTHING,
    LEAST_PATH,
    UNTRAINED,
    WIDE,
    change,
    change_and_error,
    hard_text,
    late_by_rate,
    text,
)
from ftdsl.diagnose.statistics import jitter, least_squares, share, slope


def _start_and_end(curves: Curves) -> str:
    steps = curves.loss.finite.steps
    return f"loss {text(curves.first)} -> {text(curves.last)} over steps {steps[0]} to {steps[-1]}"


def _grads(curves: Curves) -> tuple[float, float]:
    """Gradient norm early and late; (0, 0) where it was not logged."""
    return (median(curves.early_grads), median(curves.late_grads)) if len(curves.grads.finite) >= 6 else (0.0, 0.0)


def _stuck(curves: Curves, most: float = 0.15) -> bool:
    """A loss that has hardly moved (fallen by less than `most`), from a height at which nothing is known of the rows."""
    return (
        len(curves.loss.finite) >= 7
        and not curves.of_preferences
        and curves.fall < most
        and curves.first > LEARNED_NOTHING
        and curves.last > 0.85 * LEARNED_NOTHING
    )


@judge("FD201", "rate", "fit", "clip", "noise")
def vanishing(curves: Curves) -> Ill | None:
    """What it does: finds a model whose loss does not depend on its rows, and does not move.
    Why it matters: the signal dies inside of the network, forward and backward: initialisation, depth, a norm of about 0. No
    rate helps.
    Threshold: the loss moves by less than 15 %, above 3.5 nats, and from step to step (different rows) by less than 0.1 %:
    rows differ by 1 % and more where the output depends on them. Means over several steps are taken for what single steps do.
    What to do: check how the model is initialised (the handbook: deep networks, improper initialisation), its norms and
    residuals.
    Source: Glorot and Bengio 2010; SageMaker Debugger VanishingGradient; the handbook, pathology of gradients
    """
    if (
        not _stuck(curves)
        or curves.step_noise > 1e-3 * curves.last
        or max(curves.loss.finite.values) > 1.05 * curves.first
    ):
        return None
    early, late = _grads(curves)
    evidence = (
        _start_and_end(curves),
        f"from step to step the loss differs by {100 * curves.step_noise / curves.last:.3f} %: it hardly depends on the rows",
        *((f"gradient norm {text(early)} -> {text(late)}",) if early else ()),
    )
    return Ill("gradients vanish: the loss does not depend on the rows", evidence, 0.8, ("model", "lora", "freeze"))


def _saturated(curves: Curves) -> bool:
    """Whether the loss had fallen by 80 % of its whole fall when half of the sum of all rates was spent. Where weights hardly
    move, it falls in proportion to that sum; where it stops, what is trained holds no more.
    """
    rates = curves.rates
    steps = curves.loss.finite.steps
    spent = list(accumulate(rates.values))
    half = next((step for step, own in zip(rates.steps, spent, strict=True) if own >= spent[-1] / 2), 0)
    at = int(len(curves.shape) * (half - steps[0]) / max(1, steps[-1] - steps[0])) if half else len(curves.shape) // 2
    width = max(2, len(curves.shape) // 12)
    halfway = median(curves.shape[max(0, at - width) : at + width] or [curves.last])
    first = median(curves.shape[: max(1, width // 2)])
    fell = first - curves.last
    return fell > 4 * curves.noise / width**0.5 and fell > 0.005 * first and first - halfway > 0.8 * fell


def _stays(curves: Curves) -> bool:
    """Whether the weights could hardly move, and the loss did not, wherever it is: the sum of all rates is next to nothing."""
    losses = curves.loss.finite.values
    if not 0 < curves.path < LEAST_PATH or len(losses) < 12 or curves.by_sgd or curves.of_preferences:
        return False
    size = len(losses) // 3
    before, after = median(losses[:size]), median(losses[-size:])
    return before > 0.1 and abs(after / before - 1) < max(0.01, min(0.03, 2 * curves.noise / before / size**0.5))


@judge("FD202", "rate", "fit", "clip")
def rate_too_low(curves: Curves) -> Ill | None:
    """What it does: finds a loss that hardly moves although the gradient stays as large as it was.
    Why it matters: the run costs as much as a good one and leaves the model as it was.
    Threshold: the loss falls by less than 15 %, from above 5 nats (3.5, by
    rates that add up to less than 0.002), and the gradient norm stays within a quarter of its early
    value: the weights have hardly moved. Where no gradient norm was logged: the loss falls by less than 6 %. Not where 80 % of
    the fall came with the first half of the sum of all rates (then FD203: what is trained holds no more), nor where that sum is
    above 0.02, which is how wide weights are: Adam has moved them. Or, at any height,
    the sum of all rates is below 0.0001 and the loss of the last third is within 1 % of that of the first (3 %, where it is
    noisy).
    What to do: raise the rate ten times; LoRA wants about ten times the rate of full training.
    Source: SageMaker Debugger LossNotDecreasing; Schulman et al. 2025, LoRA without regret (rates of LoRA); Kingma and Ba 2015
    (the length of Adam's steps is bounded by the rate)
    """
    early, late = _grads(curves)
    still = 0.75 < late / early < 1.33 if early else curves.fall < 0.06
    stuck = _stuck(curves) and still and not _small_adapter(curves) and not _saturated(curves) and not _moved(curves)
    stuck = stuck and (curves.start > UNTRAINED or 0 < curves.path < WIDE / 10)
    stays = not stuck and _stays(curves)
    if not stuck and not stays:
        return None
    rate = (f"peak rate {text(curves.peak_rate)}",) if curves.peak_rate else ()
    if stays:
        rate = (*rate, f"all steps together: {text(curves.path)}")
    norms = (f"gradient norm {text(early)} -> {text(late)}",) if early else ()
    evidence = (_start_and_end(curves), *norms, *rate)
    keys = ("optim.lr", "optim.schedule", "duration")
    changes = (Change("raise the rate ten times", "optim.lr", "", 10),)
    confidence = 0.6 if stays else 0.8 if early else 0.5
    return Ill("the rate is too low: the weights hardly move", evidence, confidence, keys, changes)


def _moved(curves: Curves) -> bool:
    """Whether the rates add up to what weights are wide, and more: then Adam has moved them, however little that brought."""
    return not curves.by_sgd and curves.path >= WIDE


def _falls_on(curves: Curves) -> bool:
    """Whether the last 40 % of the sum of all rates may have brought 4 % of the loss: the run is short, and what is trained could
    hold more.
    """
    total, error = change_and_error(curves, late_by_rate(curves))
    return total - 2 * error < -0.04


def _small_adapter(curves: Curves) -> bool:
    """An adapter that can hold next to nothing: rank 1 or 2, or one kind of module alone."""
    targets = str(curves.config.get("lora_target", "all"))
    lora = curves.config.get("finetuning_type") == "lora"
    return lora and (curves.number("lora_rank", 8) <= 2 or (targets != "all" and "," not in targets))


@judge("FD203", "fit", "clip")
def underfitting(curves: Curves) -> Ill | None:
    """What it does: finds a loss that falls by a few percent and stays high, on training rows as on held-out ones.
    Why it matters: what is trained cannot hold what the rows say: an adapter of rank 1, few modules, a small frozen part.
    Threshold: the loss falls by less than 20 %, from above 3.5 nats, and the gradient norm has changed (the weights did move;
    where none was logged: the rates add up to 0.02), or most of the fall came early, or the adapter is known to be small (then by
    less than 35 %). Else not by less than a tenth from below 5 nats, where a trained model may have met a hard text (an untrained
    one learns the frequencies of its tokens), nor where the last 40 % of the sum of all rates brought 4 % of the loss, within 2
    standard errors: that run is only short.
    What to do: a higher rank, all modules, a larger model; then a higher rate or a longer run.
    Source: the handbook, reading loss curves (underfitting: 2.1 -> 2.0 -> 1.9)
    """
    small = _small_adapter(curves)
    if not _stuck(curves, 0.35 if small else 0.2):
        return None
    at_home = curves.start < UNTRAINED and (curves.fall < 0.1 or hard_text(curves))
    if not small and (at_home or _falls_on(curves)):
        return None
    early, late = _grads(curves)
    if not early and not small and curves.fall < 0.05 and not _moved(curves):
        return None
    evidence = [_start_and_end(curves)]
    if len(curves.evals.finite):
        values = curves.evals.finite.values
        evidence.append(f"held-out loss {text(values[0])} -> {text(values[-1])}")
    if early:
        evidence.append(f"gradient norm {text(early)} -> {text(late)}")
    if small:
        evidence.append(
            f"LoRA of rank {curves.config.get('lora_rank', 8)} on {curves.config.get('lora_target', 'all')}"
        )
    changes = (Change("a larger adapter", "lora.rank", "16"), Change("on all modules", "lora.targets", "all"),
               Change("raise the rate three times", "optim.lr", "", 3))  # fmt: skip
    return Ill("the model hardly learns its rows (underfitting)", tuple(evidence), 0.75,
               ("lora.rank", "lora.targets", "lora", "optim.lr", "duration"), changes)  # fmt: skip


@judge("FD204", "fit", "held-out")
def overfitting(curves: Curves) -> Ill | None:
    """What it does: finds a held-out loss that rises from its lowest while the training loss falls on.
    Why it matters: from there on the model learns its rows by heart. The best checkpoint is the one at the lowest.
    Threshold: the last held-out losses are above the lowest by 2 % (5 %, within the usual three epochs), and by 3 standard
    deviations of their own jitter (2 where they are half above the training loss) or by 4 standard errors of a line through
    them, and the training loss has fallen since, to a tenth below them or more. Or the training loss halves in more than three
    epochs, and the held-out loss, twice as high in the end, never falls by a tenth.
    What to do: stop at the lowest (`save { best_by = eval_loss }`, `guard { patience = 3 }`), fewer epochs, more rows,
    dropout, a smaller rank.
    Source: Prechelt 1998, Early stopping, but when?; the handbook, reading loss curves; SageMaker Debugger Overfit
    """
    evals, losses = curves.evals.finite, curves.loss.finite
    if len(evals) < 3 or len(losses) < 5 or 0 < curves.epochs < 1.5:
        return None
    lowest = min(evals.values)
    at = evals.values.index(lowest)
    after = evals.values[at:]
    if lowest <= 0 or len(after) < 2:
        return None
    around = median(evals.values[max(0, at - 1) : at + 2]) if len(after) > 4 else lowest
    end = median(after[-3:]) if len(after) > 4 else min(after[-2:]) if len(after) > 2 else after[-1]
    gap = curves.gap or 0.0
    wobble = jitter(evals.values[max(0, at - 2) :]) / lowest
    train_then = curves.trend[_at(curves, evals.steps[at])]
    least = 0.05 if 0 < curves.epochs < 3.1 else 0.02
    rises = end / around - 1 > max(least, (2 if gap > 0.5 else 3) * wobble)
    if not (rises or _line_rises(after, least)) or curves.last > 0.99 * train_then or gap < 0.1:
        return _knows_its_rows_alone(curves)
    evidence = [
        f"held-out loss {text(lowest)} at step {evals.steps[at]}, {text(evals.values[-1])} at step {evals.steps[-1]}",
        f"training loss {text(train_then)} -> {text(curves.last)} meanwhile",
    ]
    changes = [Change("keep the best checkpoint, not the last", "save.best_by", "eval_loss")]
    if curves.epochs > 1:
        best = curves.epochs * evals.steps[at] / losses.steps[-1]
        evidence.append(f"{curves.epochs:.3g} epochs; the lowest was after {best:.2g}")
        changes.insert(
            0, Change(f"train for {max(1, round(best))} epochs", "duration", f"{max(1, round(best))} epochs")
        )
    return Ill("the model learns its rows by heart (overfitting)", tuple(evidence), 0.9,
               ("duration", "lora.rank", "data"), tuple(changes), evals.steps[at])  # fmt: skip


def _knows_its_rows_alone(curves: Curves) -> Ill | None:
    """A training loss that halved in more than three epochs beside a held-out loss that is twice as high and within a tenth of
    what it was at first.
    """
    evals, gap = curves.evals.finite.values, curves.gap or 0.0
    if curves.epochs < 3.1 or curves.fall < 0.5 or gap < 1 or median(evals[len(evals) // 2 :]) < 0.9 * evals[0]:
        return None
    evidence = (f"held-out loss {text(evals[0])} -> {text(evals[-1])}, training loss falls by {100 * curves.fall:.0f} %",
                f"{curves.epochs:.3g} epochs; held-out above training by {100 * gap:.0f} %")  # fmt: skip
    changes = (Change("keep the best checkpoint, not the last", "save.best_by", "eval_loss"),
               Change("train for 3 epochs", "duration", "3 epochs"))  # fmt: skip
    return Ill("the model learns its rows by heart, and nothing of others (overfitting)", evidence, 0.8,
               ("duration", "data", "lora.rank"), changes)  # fmt: skip


def _line_rises(values: list[float], least: float) -> bool:
    """Whether a line through the values rises by such a share of the first in all, and by 4 standard errors."""
    per_value, error = slope(range(len(values)), values)
    return len(values) >= 5 and per_value > 4 * error and per_value * (len(values) - 1) > least * values[0]


def _at(curves: Curves, step: int) -> int:
    """Where a step is in the thinned curve."""
    steps = curves.loss.finite.steps
    part = (step - steps[0]) / max(1, steps[-1] - steps[0])
    return min(len(curves.trend) - 1, max(0, int(part * len(curves.trend))))


@judge("FD205", "fit", "held-out")
def memorising(curves: Curves) -> Ill | None:
    """What it does: finds a training loss that falls in stairs: at the start of each epoch, and hardly within.
    Why it matters: rows are known again, not understood; with nothing held out, no one sees the harm.
    Threshold: without evaluation, from the end of the first epoch on: a parabola with a sawtooth of one epoch fits the losses
    better than a parabola, the sawtooth by 4 standard errors, and its stairs are half and more of what the loss falls in an
    epoch (100 % where it only falls at borders, 0 where it falls evenly). Over at least 2 borders, with 1.4 logged values an
    epoch. Up to 3 epochs, which are customary, stairs count only where the loss ends below a quarter of the first epoch's. Or 8
    epochs and more, at whose end the loss is below 0.05 nats (no text is as certain), or, of fine-tuning, below half of what it
    was after the fourth: up to four, seen rows teach as new ones do.
    What to do: fewer epochs (1 to 3 for fine-tuning), and hold rows out.
    Source: Howard and Whitaker 2023, Can LLMs learn from a single example?; Zhang et al. 2017; Muennighoff et al. 2023, Scaling
    data-constrained language models (four epochs)
    """
    period = curves.steps_per_epoch
    if len(curves.evals) or curves.epochs < 2.5 or len(curves.loss.finite) < 8 or curves.of_preferences or period < 1:
        return None
    changes = (Change("train for 2 epochs", "duration", "2 epochs"), Change("hold rows out", "evaluate.data", "5%"))
    if curves.epochs >= 8 and curves.first > 0.5:
        then = _after_epoch(curves, 4)
        # what pretraining learns after four epochs may be the language
        if curves.last < (0.05 if curves.config.get("stage") == "pt" else max(0.05, 0.5 * then)):
            evidence: tuple[str, ...] = (_start_and_end(curves), f"{text(then)} after 4 of {curves.epochs:.3g} epochs",
                                         "nothing is held out")  # fmt: skip
            return Ill("rows are learned by heart: the loss falls on through many epochs", evidence, 0.6, ("duration", "data"),
                       changes)  # fmt: skip
    height, error, fall = _stairs(curves)
    if not height or height < 4 * error or height < 0.5 * fall:
        return None
    if curves.epochs < 3.1 and curves.last > 0.25 * _after_epoch(curves, 1):
        return None
    start = curves.loss.steps[0] - curves.every
    borders = [round(start + epoch * period) for epoch in range(1, int(curves.epochs))]
    stair = f"{text(height)} (standard error {text(error)}), of {text(fall)} in a whole one"
    evidence = (f"at the start of an epoch the loss falls by {stair}",
                f"epochs start at steps {', '.join(map(str, borders[:4]))}{', …' if len(borders) > 4 else ''}",
                _start_and_end(curves))  # fmt: skip
    return Ill("the loss falls in stairs, epoch by epoch: rows are learned by heart", evidence, 0.75, ("duration", "data"),
               changes, borders[0])  # fmt: skip


def _after_epoch(curves: Curves, epoch: int) -> float:
    """The loss around the end of an epoch: the median of half an epoch on both sides; 0 where nothing was logged there."""
    losses, period = curves.loss.finite, curves.steps_per_epoch
    middle = losses.steps[0] - curves.every + epoch * period
    around = [
        value
        for step, value in zip(losses.steps, losses.values, strict=True)
        if abs(step - (curves.every - 1) / 2 - middle) <= max(0.5 * period, curves.every)
    ]
    return median(around) if around else 0.0


def _stairs(curves: Curves) -> tuple[float, float, float]:
    """Nats by which the loss leaps down where epochs start, the standard error, and its fall in an epoch; zeros where there
    are too few values. A mean over steps holds the mean of the sawtooth over them.
    """
    losses, period, every = curves.loss.finite, curves.steps_per_epoch, curves.every
    together = max(1, len(losses) // 3000)
    if period / (every * together) < 1.4:
        return 0.0, 0.0, 0.0
    start = losses.steps[0] - every
    steps, saws, values = [], [], []
    for at in range(0, len(losses) - together + 1, together):
        covered = range(losses.steps[at] - every + 1, losses.steps[at + together - 1] + 1)
        middle = (mean(covered) - start - 1) / period
        if middle >= 0.9:
            steps.append(middle)
            saws.append(mean(((step - start - 1) / period) % 1 for step in covered) - 0.5)
            values.append(mean(losses.values[at : at + together]))
    if len(values) < 8 or steps[-1] < 2.2:
        return 0.0, 0.0, 0.0
    centre = mean(steps)
    columns = [[1.0] * len(steps), [step - centre for step in steps], [(step - centre) ** 2 for step in steps], saws]
    fitted, errors = least_squares(columns, values)
    if not fitted or not errors[3]:
        return 0.0, 0.0, 0.0
    # A stair is a fall of the line and a rise of the sawtooth: the line has both.
    return fitted[3], errors[3], max(-fitted[1], 1e-9)


@judge("FD206", "held-out")
def noisy_labels(curves: Curves) -> Ill | None:
    """What it does: finds a training loss that stays above the held-out loss.
    Why it matters: a part of the training rows cannot be learned: answers that do not belong to their questions, cut rows.
    Threshold: over the second half of the run the held-out loss is below the training loss around it by more than 10 %, and by
    4 standard errors; not where it was as far below at the first evaluation (held-out rows that are easier), nor
    where the training loss rises while the held-out loss falls (rows that become harder), nor where dropout, NEFTune or label
    smoothing raise the training loss.
    What to do: clean the rows (duplicates with different answers, wrong columns), or hold out rows of the same kind.
    Source: Song et al. 2022, Learning from noisy labels (survey); measured (docs/diagnose.md)
    """
    raised = any(curves.number(name) for name in ("neftune_noise_alpha", "label_smoothing_factor", "lora_dropout"))
    gap = curves.gap
    if gap is None or raised or curves.epochs > 5 or len(curves.evals.finite) < 3 or len(curves.loss.finite) < 7:
        return None
    early, grows = curves.gaps[0][1], 1.3
    if curves.fall < 0.15:  # nothing is learned that the gap could come of
        early, grows = median([gap for _, gap in curves.gaps[: max(3, len(curves.gaps) // 3)]]), 1.6
    if gap > -0.1 or -gap < 4 * curves.gap_error or (early < -0.08 and gap > grows * early):
        return None
    values = curves.evals.finite.values
    rises, still = change(curves)
    if (rises > 0.05 or (rises > 0.03 and not still)) and values[-1] < 1.02 * min(values):
        return None
    evidence = (f"held-out loss {text(values[-1])}, training loss {text(curves.last)} at the end",
                f"held-out below training by {-100 * gap:.0f} % over the second half of the run")  # fmt: skip
    return Ill(
        "a part of the training rows cannot be learned, and held-out rows can", evidence, 0.7, ("data", "evaluate")
    )


@judge("FD207", "held-out")
def evaluation_rows_seen(curves: Curves) -> Ill | None:
    """What it does: finds a held-out loss that follows the training loss through many epochs of few rows.
    Why it matters: the rows held out are rows that are trained on: the evaluation says nothing.
    Threshold: the config names the same rows for both; or 10 epochs and more (5, of fewer than 200 rows), and the held-out
    loss is no more than 2 % above the training loss around it, which has fallen by half.
    What to do: hold out other rows; the data stage's leak guard compares them.
    Source: measured (docs/diagnose.md); Magar and Schwartz 2022, Data contamination
    """
    gap, data, held = curves.gap, curves.config.get("dataset"), curves.config.get("eval_dataset")
    same = bool(data) and data == held and len(curves.evals.finite) > 0
    if gap is None or (not same and (curves.fall < 0.5 or not -0.5 < gap < 0.02)):
        return None
    rows = curves.steps_per_epoch * curves.batch
    few = 0 < rows < 200
    if not same and (curves.epochs < (5 if few else 10)):
        return None
    evidence = [f"{curves.epochs:.3g} epochs, held-out loss {text(curves.evals.finite.values[-1])}, training {text(curves.last)}",
                f"held-out above training by {100 * gap:.1f} %"]  # fmt: skip
    if same:
        evidence.append(f"`{held}` is trained on and evaluated on")
    keys = ("evaluate.data", "evaluate", "data")
    return Ill("the rows held out are seen in training", tuple(evidence), 0.95 if same else 0.6, keys,
               (Change("hold out a part of the rows", "evaluate.data", "5%"),))  # fmt: skip


FOREIGN = 2.8
"""Nats per token: what a trained model has, at least, for answers between markers that it does not know."""


@judge("FD208", "start")
def wrong_template(curves: Curves) -> Ill | None:
    """What it does: finds a trained model that reads its rows as foreign at first, and is at home after a few steps.
    Why it matters: the chat template is not the one the model was trained with: the first part of the run teaches markers,
    and whoever serves the model with its own template gets another model.
    Threshold: the first loss is between 2.8 and 5 nats (a trained model reads its own format at less, an untrained one is above
    5; unless the loss is within 45 % of its end after a twelfth of the run, and the gradient norm falls to a quarter: an
    untrained one has small norms), the run ends above 0.1 and below 45 % of that, the gradient norm falls to below 48 %, and the
    last 40 % of the steps bring less than 15 % (6 %, where no norm was logged), within 3 epochs (rows seen more often are
    learned anyway).
    What to do: name the model's own template; `ftc plan` shows which that is. Score the base model with it first.
    Source: measured (docs/diagnose.md); the rules FT503, FT504 compare the template's name with the model's family
    """
    early, late = _grads(curves)
    if len(curves.loss.finite) * min(curves.every, 2) < 30 or curves.of_preferences or curves.epochs > 3:
        return None
    at_home = median(share(curves.shape, 0.06, 0.1)) < 1.45 * curves.last
    foreign = curves.first > 5 and not (at_home and early > 4 * late > 0)
    if (
        curves.every > max(1, 0.02 * curves.loss.steps[-1])
        or foreign
        or median(curves.loss.finite.values[:3]) < FOREIGN
    ):
        return None
    settled = median(share(curves.shape, 0.5, 0.7))
    if not 0.1 < curves.last < 0.45 * curves.first or (early and late > 0.48 * early):
        return None
    if settled > (1.15 if early else 1.06) * curves.last:
        return None
    template = curves.config.get("template")
    norms = (f"gradient norm {text(early)} -> {text(late)}",) if early else ()
    evidence = (_start_and_end(curves), *norms,
                f"at the middle the loss is {text(settled)}: all of it was learned in the first steps",
                *((f"template `{template}`",) if template else ()))  # fmt: skip
    return Ill("the chat template is probably not the model's own", evidence, 0.5 if early else 0.4,
               ("template", "model"))  # fmt: skip
