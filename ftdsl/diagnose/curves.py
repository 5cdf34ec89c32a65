"""What was logged of one training, whoever logged it; and the quantities that judges ask for, each computed once."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

from ftdsl.diagnose.statistics import jitter, share, smooth, thinned

POINTS = 600
"""Points of a long curve that its shape is read from (medians of neighbours); single steps are looked at in all of it."""


REWARDS = ("rewards/", "objective/", "completion")
"""How series begin that only trainers of preferences and rewards log; the loss of these may be 0 or below."""


@dataclass(frozen=True)
class Series:
    """Values at steps, which rise. Both lists are of the same length."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, value: float) -> None:
        """Append; after a resume the steps since the checkpoint come again, and the newer values count."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()
        self.steps.append(step)
        self.values.append(value)

    @cached_property
    def finite(self) -> Series:
        """Without what is no number."""
        pairs = [(s, v) for s, v in zip(self.steps, self.values, strict=True) if math.isfinite(v)]
        return self if len(pairs) == len(self) else Series([s for s, _ in pairs], [v for _, v in pairs])

    def before(self, step: int) -> Series:
        """Up to a step, without it."""
        at = next((at for at, own in enumerate(self.steps) if own >= step), len(self))
        return Series(self.steps[:at], self.values[:at])


@dataclass(frozen=True)
class Curves:
    """One training.

    source: the file, as it was named; loss: of training, by optimizer step; evals: loss on held-out rows; more: every other
    series by the Trainer's name (`grad_norm`, `learning_rate`, `epoch`, `rewards/chosen`, …), `elapsed` in seconds,
    `memory` in bytes; config: the engine's parameters, where they are known; stage: its key in the recipe, of our own runs.
    """

    source: str = ""
    loss: Series = field(default_factory=Series)
    evals: Series = field(default_factory=Series)
    more: Mapping[str, Series] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    stage: str = ""

    def series(self, name: str) -> Series:
        """A series by name; an empty one where it was not logged."""
        return self.more.get(name) or Series()

    @cached_property
    def grads(self) -> Series:
        return self.series("grad_norm")

    @cached_property
    def every(self) -> int:
        """Optimizer steps from one logged loss to the next. The Trainer and Megatron log the mean over them."""
        steps = self.loss.steps
        return max(1, round(median([after - before for before, after in pairwise(steps)]))) if len(steps) > 2 else 1

    @cached_property
    def shape(self) -> list[float]:
        """The finite losses, thinned: what does not depend on the number of steps is read from these."""
        return thinned(self.loss.finite.values, POINTS)

    @cached_property
    def trend(self) -> list[float]:
        """The shape without its noise: medians over a twentieth of the run, at least 5 points (3, where each is a mean)."""
        return smooth(self.shape, max(5 if self.every < 5 else 3, len(self.shape) // 20) | 1)

    @cached_property
    def first(self) -> float:
        """The loss before anything was learned: the first update follows the first value, where every step was logged."""
        return self.loss.finite.values[0]

    @cached_property
    def last(self) -> float:
        """The loss that the run ends at: the median of its last tenth, at least 5 steps."""
        values = self.loss.finite.values
        return median(values[-max(2, math.ceil(5 / self.every), len(values) // 10) :])

    @cached_property
    def lowest(self) -> float:
        return min(self.trend)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of a logged loss around the trend, in the second half (in the first it falls too fast); of fewer
        than 32 values in the last three quarters: of six the deviation is not known by half.
        """
        values = self.loss.finite.values
        return jitter(share(values, 0.5 if len(values) >= 32 else 0.25))

    @cached_property
    def step_noise(self) -> float:
        """The same of a single step's loss: a mean over n steps has 1/sqrt(n) of it."""
        return self.noise * math.sqrt(self.every)

    @cached_property
    def start(self) -> float:
        """The loss that the run began with. The first mean over several steps is below it: half of the way to the second is
        added."""
        values = self.loss.finite.values
        lost = max(0.0, values[0] - values[1]) / 2 if self.every > 1 and len(values) > 1 else 0.0
        return self.first + lost

    @cached_property
    def fall(self) -> float:
        """Share of what it began with that the run lost; negative where it rose."""
        return 1 - self.last / self.start if self.first else 0.0

    @cached_property
    def rates(self) -> Series:
        return self.series("learning_rate").finite

    @cached_property
    def path(self) -> float:
        """Sum of the rates of all steps, as far as Adam moves a weight at most; 0 where they are not known."""
        return sum(self.rates.values) * self.every

    @cached_property
    def by_sgd(self) -> bool:
        """Whether SGD is known to train it, whose rates do not tell how far weights move."""
        return "sgd" in str(self.config.get("optim"))

    @cached_property
    def peak_rate(self) -> float:
        return max(self.rates.values, default=0.0)

    @cached_property
    def epochs(self) -> float:
        """Passes over the rows, 0 where they were not logged. Whole numbers are counters: the last of them is not over yet."""
        values = self.series("epoch").finite.values
        if self._counts_epochs:
            return self.loss.steps[-1] / self.steps_per_epoch if self.steps_per_epoch else 0.0
        return max(values, default=0.0)

    @cached_property
    def _counts_epochs(self) -> bool:
        values = self.series("epoch").finite.values
        return len(values) > 4 and all(value == int(value) for value in values)

    @cached_property
    def steps_per_epoch(self) -> float:
        """Optimizer steps of one pass; 0 where it is not known."""
        epochs = self.series("epoch").finite
        if self._counts_epochs:
            starts = [step for before, step, value in zip(epochs.values, epochs.steps[1:], epochs.values[1:], strict=False)
                      if value != before]  # fmt: skip
            between = [b - a for a, b in pairwise(starts)]
            return float(median(between)) if between else float(starts[0] - epochs.steps[0]) if starts else 0.0
        return epochs.steps[-1] / epochs.values[-1] if len(epochs) and epochs.values[-1] > 1e-9 else 0.0

    @cached_property
    def early_grads(self) -> list[float]:
        """Gradient norms before much was learned: the first twentieth, at least 3."""
        values = self.grads.finite.values
        return values[: max(3, len(values) // 20)]

    @cached_property
    def late_grads(self) -> Sequence[float]:
        """Gradient norms of the last third."""
        return share(self.grads.finite.values, 2 / 3) if len(self.grads.finite) else []

    @cached_property
    def gaps(self) -> list[tuple[int, float]]:
        """Step, and held-out loss against the training loss around it, as a share of the latter, at each evaluation around
        which something was logged.
        """
        losses, evals = self.loss.finite, self.evals.finite
        middles = [step - (self.every - 1) / 2 for step in losses.steps]
        width = (evals.steps[-1] - evals.steps[0]) / (2 * max(1, len(evals) - 1)) if len(evals) else 0.0
        width = max(width or len(losses) / 10, 0.75 * self.every)
        gaps = []
        for step, value in zip(evals.steps, evals.values, strict=True):
            around = losses.values[bisect_left(middles, step - width) : bisect_right(middles, step + width)]
            if around and (train := median(around)) > 0:
                gaps.append((step, value / train - 1))
        return gaps

    @cached_property
    def gap(self) -> float | None:
        """The gap of the run: the median of the second half of the evaluations. None without evaluation."""
        evals = self.evals.finite
        late = [gap for step, gap in self.gaps if step >= evals.steps[len(evals) // 2]]
        return median(late[:-1] or late) if late else None

    @cached_property
    def gap_error(self) -> float:
        """Standard error of the training loss that the gap is taken against, as a share."""
        count = max(1, len(share(self.loss.finite.values, 0.5)))
        return self.noise / self.last / math.sqrt(count) if self.last > 0 else math.inf

    def number(self, name: str, default: float = 0.0) -> float:
        """A parameter of the config as a number; the default where it is none, or not known."""
        try:
            return float(self.config.get(name, default))
        except (TypeError, ValueError):
            return default

    @cached_property
    def of_preferences(self) -> bool:
        """Whether the loss is one of preferences or rewards, not of tokens."""
        named = self.config.get("stage") in ("dpo", "kto", "ppo", "rm")
        return named or any(name in ("reward", "kl") or name.startswith(REWARDS) for name in self.more)

    @cached_property
    def of_answers(self) -> bool:
        """Whether the loss is that of a policy on its own answers, which says nothing about how well it does: the reward does."""
        return self.config.get("stage") == "ppo" or any(
            name in ("reward", "frac_reward_zero_std") for name in self.more
        )

    @cached_property
    def batch(self) -> int:
        """Rows that one process puts into an optimizer step, by the config; 0 where that is not known."""
        micro = self.number("per_device_train_batch_size")
        return int(micro * self.number("gradient_accumulation_steps", 1))
