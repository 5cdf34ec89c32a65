"""Preference stages: what DPO, KTO and PPO log of rewards. Rewards are beta times log-ratios to the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median

from ftdsl.diagnose.curves import Curves
from ftdsl.diagnose.judge import Change, Ill, judge
from ftdsl.diagnose.judges.shared import text
from ftdsl.diagnose.statistics import jitter, share, spread

FEWEST = 4
"""Logged values that are needed: the end of a run is the last third of them, and its error is known from these."""


def _end(values: Sequence[float], *, falls: bool = False) -> tuple[float, float]:
    """Median of the last third, and its standard error. falls: a trend is no error: the deviation is that around a line, where it
    is less (known from six values).
    """
    tail = share(values, 2 / 3)
    around = jitter(share(values, 1 / 3)) if falls and len(values) >= 6 else math.inf
    return median(tail), 1.25 * min(spread(tail), around) / math.sqrt(len(tail))


@judge("FD601", "preferences")
def margins_collapse(curves: Curves) -> Ill | None:
    """What it does: finds preferences that are not learned: chosen and rejected answers stay equally likely.
    Why it matters: pairs without a difference, swapped columns, or a rate that is too low: the stage costs and changes
    nothing.
    Threshold: over the last third the margin is within 3 standard errors of 0, or below 0, or less than half of what it was
    at its best third; by a margin of less than 0.05 the accuracy must also be between 35 and 65 %.
    What to do: look at the pairs (columns, duplicates); raise the rate; a larger `beta` where the margin fell back.
    Source: Rafailov et al. 2023 (DPO); trl, logged metrics
    """
    values = curves.series("rewards/margins").finite.values
    if len(values) < FEWEST:
        return None
    end, error = _end(values)
    accuracy = curves.series("rewards/accuracies").finite.values
    hits = mean(share(accuracy, 2 / 3)) if len(accuracy) >= FEWEST else 0.5  # of a small batch the median is coarse
    best = max(median(share(values, part / 6, (part + 2) / 6)) for part in range(5))
    fell = best > 0.2 and end < 0.5 * best
    none = (end <= 3 * error or end < 0.05) and 0.35 <= hits <= 0.65
    if not (fell or none or end < -3 * error):
        return None
    evidence = [f"margin {text(values[0])} -> {text(end)} (standard error {text(error)})"]
    if len(accuracy):
        evidence.append(f"chosen above rejected in {100 * hits:.0f} % of the pairs at the end")
    if fell:
        evidence.append(f"the margin was {text(best)} at its best")
    return Ill("preferences are not learned: the margin " + ("falls back" if fell else "stays at 0"), tuple(evidence), 0.8,
               ("data", "optim.lr", "beta"), (Change("raise the rate three times", "optim.lr", "", 3),))  # fmt: skip


@judge("FD602", "chosen")
def chosen_answers_fall(curves: Curves) -> Ill | None:
    """What it does: finds preference training that makes the chosen answers less likely too.
    Why it matters: the margin grows because rejected answers fall faster; probability goes to answers nobody asked for.
    Threshold: over the last third the reward of chosen answers is below 0 by 4 standard errors, by more than a fifth of the
    margin (half of it, where the margin is above 1: pairs that share most of their tokens fall together while they are
    learned), and by a fall of more than 1 nat in log-likelihood (reward over beta).
    What to do: add the likelihood of the chosen answer to the loss (`sft_weight`), a larger `beta`, a lower rate.
    Source: Razin et al. 2024, Unintentional unalignment (likelihood displacement); Pal et al. 2024 (DPO-positive)
    """
    chosen = curves.series("rewards/chosen").finite.values
    if len(chosen) < FEWEST:
        return None
    end, error = _end(chosen, falls=True)
    margins = curves.series("rewards/margins").finite.values
    margin = abs(_end(margins)[0]) if len(margins) >= FEWEST else 0.0
    # LLaMA-Factory's name, TRL's, and what both take where none is given
    beta = curves.number("pref_beta") or curves.number("beta") or 0.1
    if end >= -4 * error or -end < (0.5 if margin > 1 else 0.2) * margin or -end / beta < 1:
        return None
    evidence = (f"reward of chosen answers {text(chosen[0])} -> {text(end)}: {-end / beta:.3g} nats less likely than before",
                *((f"margin {text(margin)}",) if margin else ()))  # fmt: skip
    return Ill("chosen answers become less likely too", evidence, 0.8, ("sft_weight", "beta", "optim.lr"),
               (Change("keep the likelihood of chosen answers", "sft_weight", "1.0"),
                Change("lower the rate three times", "optim.lr", "", 0.3)))  # fmt: skip


@judge("FD603", "divergence")
def divergence_from_reference(curves: Curves) -> Ill | None:
    """What it does: finds a KL divergence from the reference model that runs away.
    Why it matters: the policy leaves the language of its reference: reward hacking, gibberish with a high score.
    Threshold: the last third is above 10 times the first third and still rising, and above 10 nats a sequence, or half a nat a
    token where that is what is logged (GRPO and RLOO in TRL: `kl` beside a `reward`).
    What to do: a larger KL coefficient (`beta`), a lower rate, fewer epochs on the same answers.
    Source: Ziegler et al. 2019 (adaptive KL, target 6 nats); Gao et al. 2023 (over-optimisation)
    """
    for name in ("objective/kl", "kl", "rewards/kl"):
        values = curves.series(name).finite.values
        if len(values) < 6:
            continue
        per_token = name == "kl" and "reward" in curves.more and "rewards/chosen" not in curves.more
        first, middle, last = (median(share(values, start, start + 1 / 3)) for start in (0, 1 / 3, 2 / 3))
        least = 0.5 if per_token else 10
        if last > least and last > 10 * max(first, least / 100) and last > 1.5 * middle:
            return Ill("the policy runs away from its reference", (f"KL {text(first)} -> {text(middle)} -> {text(last)}",),
                       0.8, ("beta", "optim.lr"), (Change("lower the rate three times", "optim.lr", "", 0.3),))  # fmt: skip
    return None
