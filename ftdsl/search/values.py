"""What a trial is worth: a goal's metric of its stages, and the values on the way there by which it may be pruned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.observe.progress import RunProgress, StageProgress
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.search import Goal, needed, stages_called
from ftdsl.runtime import events

SMOOTHING = 0.6
"""Share of what was before in a smoothed training loss."""


class NoValueError(Exception):
    """A trial ended without the metric of a goal; the message is a sentence."""


def value_of(goal: Goal, progress: RunProgress) -> float:
    """The goal's metric of a run that has ended: the mean over the variants of its stage. Raises: NoValueError."""
    stages = [stage for stage in progress.stages if stage.key.partition("@")[0] == goal.stage]
    values = [_metric(goal.metric, stage, progress.folder) for stage in stages]
    if not values or any(value is None for value in values):
        raise NoValueError(f"`{goal.stage}` ended without `{goal.metric}`")
    mean = sum(value for value in values if value is not None) / len(values)
    if not math.isfinite(mean):
        raise NoValueError(f"`{goal}` is {mean}")
    return mean


def _metric(name: str, stage: StageProgress, run: Path) -> float | None:
    folder = run / stage.folder
    if stage.result and name in stage.result.metrics:
        return stage.result.metrics[name]
    log = events.read(folder / events.METRICS)
    if name == "seconds":
        times = [event["time"] for event in events.last_attempt(log) if "time" in event]
        known = stage.started is not None and stage.ended is not None
        return stage.elapsed(0.0) if known else times[-1] - times[0] if times else None
    if name == "memory":
        measured = [event for event in log if event["event"] == "measured"]
        sizes = [event.get(key, 0) for event in measured for key in ("reserved_bytes", "rss_bytes")]
        return float(max(sizes)) if sizes else None
    if name == "size":
        result_folder = run / stage.result.path if stage.result else folder
        return float(sum(path.stat().st_size for path in result_folder.rglob("*") if path.is_file()))
    scores = [event.get("metrics", {}) for event in log if event["event"] == "eval"]
    score: float | None = next((table[name] for table in reversed(scores) if name in table), None)
    return score


@dataclass(frozen=True)
class Watched:
    """The stage whose reports judge a running trial. metric: of its evaluations, "" for the smoothed training loss.

    sign: -1 where the study wants more and the loss less.
    """

    stage: str
    metric: str
    sign: float = 1.0

    def __str__(self) -> str:
        return f"{self.stage}'s {f'eval_{self.metric}' if self.metric else 'smoothed training loss'}"


def watched_by(goal: Goal, recipe: Recipe) -> Watched | None:
    """What stands in for a goal while a trial runs: the goal's own stage where it trains, else the last training before it."""
    keys = needed(recipe, [goal.stage])
    own = stages_called(recipe, goal.stage)
    before = [stage for stage in recipe.stages if stage.key in keys and stage.kind in TRAINING]
    stage = own[0] if own and own[0].kind in (*TRAINING, "shell") else before[-1] if before else None
    if stage is None:
        return None
    if stage.kind == "shell":
        return Watched(stage.key, goal.metric)
    metric = goal.metric.removeprefix("eval_")
    loss = -1.0 if not goal.minimize else 1.0
    if not stage.settings.get("evaluate.data"):
        return Watched(stage.key, "", loss)
    asked = {*stage.settings.names("evaluate.metrics"), "loss"}
    same = goal.metric.startswith("eval_") and (metric in asked or any(metric.startswith(name) for name in asked))
    return Watched(stage.key, metric) if same and goal.stage == stage.name else Watched(stage.key, "loss", loss)


class Curve:
    """The values on the way of one trial, each given once. known: the step of the last value of an earlier start."""

    def __init__(self, watched: Watched, after: int = 0, known: int = -1) -> None:
        self.watched, self.after = watched, after
        self._last = known
        self._smoothed: float | None = None

    def new(self, progress: RunProgress) -> list[tuple[int, float]]:
        """(step, value) since the last call; what is no number is left out."""
        try:
            stage = progress.stage(self.watched.stage)
        except KeyError:
            return []
        points = [point for point in self._points(stage) if point[0] > self._last]
        if points:
            self._last = points[-1][0]
        return [
            (step, value * self.watched.sign) for step, value in points if step >= self.after and math.isfinite(value)
        ]

    def total(self, progress: RunProgress) -> int:
        """Steps of the stage, 0 where they are not known."""
        try:
            return progress.stage(self.watched.stage).total or 0
        except KeyError:
            return 0

    def _points(self, stage: StageProgress) -> list[tuple[int, float]]:
        if self.watched.metric:
            return [(step, table[self.watched.metric]) for step, table in stage.evals if self.watched.metric in table]
        least = max(1, (stage.total or 0) // 50)
        points: list[tuple[int, float]] = []
        for step, loss in stage.losses:
            if step <= self._last:
                continue
            before = self._smoothed if self._smoothed is not None and math.isfinite(self._smoothed) else loss
            self._smoothed = SMOOTHING * before + (1 - SMOOTHING) * loss
            if not points or step - points[-1][0] >= least:
                points.append((step, self._smoothed))
        return points
