"""What a planned stage will take: memory by phase, step time, steps, total time, disk, money; or why it cannot be said."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ftdsl import catalog
from ftdsl.estimate import disk
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.language.values import Amount, StageRef, Term
from ftdsl.plan.fitting import Fitter, layout_of
from ftdsl.plan.layout import architecture_of, setup_of
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.plan.search import Cost
from ftdsl.plan.ways_out import Way, ways_out
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.rules.data import named
from ftdsl.recipe.shape import files_of, local_path
from ftdsl.record import record
from ftdsl.session import Files

ARRAY = 64 << 20
"""Bytes of a JSON array up to which its rows are counted; lines are counted whatever their number."""


@record
class Forecast:
    """Of one training stage. cost: None when `unknown` says why; steps: optimizer steps, 0 when not known (and
    `steps_unknown` says why); seconds: of all steps; disk: bytes of all checkpoints kept; price: USD an hour and card;
    ways: what to change when it does not fit.
    """

    key: str
    cost: Cost | None = None
    unknown: str = ""
    steps: int = 0
    steps_unknown: str = ""
    disk: float = 0.0
    checkpoint: float = 0.0
    cards: int = 0
    price: float = 0.0
    ways: tuple[Way, ...] = ()

    @property
    def seconds(self) -> float:
        return self.steps * self.cost.seconds if self.cost else 0.0

    @property
    def money(self) -> float:
        """USD; 0 when time or price are not known."""
        return self.seconds / 3600 * self.cards * self.price


def forecasts(plan: Plan, files: Files) -> dict[str, Forecast]:
    """Of every training stage of a plan, by key."""
    return {one.key: forecast(one, plan.recipe, files) for one in plan.stages if one.batch is not None}


def forecast(planned: PlannedStage, recipe: Recipe, files: Files) -> Forecast:
    """Never raises: what is not modelled is said."""
    stage, world = planned.stage, planned.world
    steps, why = steps_of(planned, recipe, files)
    if not world.gpu:
        return Forecast(planned.key, unknown="there is no card", steps=steps, steps_unknown=why)
    fitter = Fitter(stage, world, recipe, planned.precision, recipe.budget.get("memory", 0.0))
    layout = layout_of(planned)
    try:
        cost = fitter.cost(layout)
        saved = disk.checkpoint(setup_of(stage, world, layout, architecture_of(stage, recipe)), _resumable(stage))
        ways = () if cost.fits else tuple(ways_out(fitter, layout))
    except NotModelledError as error:
        return Forecast(planned.key, unknown=str(error), steps=steps, steps_unknown=why)
    return Forecast(
        planned.key, cost, "", steps, why, saved * _kept(stage, steps), saved, world.size, _price(stage), ways
    )  # fmt: skip


def _resumable(stage: Stage) -> bool:
    return stage.settings.get("save.resumable") is not False


def _kept(stage: Stage, steps: int) -> int:
    """Checkpoints that lie there at the end: at most `save.keep` of those made."""
    every, keep = stage.settings.get("save.every"), stage.settings.get("save.keep")
    made = 1
    if isinstance(every, Amount) and steps:
        made = {"steps": math.ceil(steps / max(1, every.number)), "share": math.ceil(1 / max(0.001, every.number))}.get(
            every.unit, 1
        )
    return min(made, keep) if isinstance(keep, int) and keep > 0 else made


def _price(stage: Stage) -> float:
    said = stage.settings.get("hardware.price")
    number = getattr(said, "number", said)
    if isinstance(number, int | float):
        return float(number)
    return catalog.prices().get(stage.settings.name("hardware.gpu"), 0.0)


def steps_of(planned: PlannedStage, recipe: Recipe, files: Files) -> tuple[int, str]:
    """Optimizer steps of a stage; 0 and why when that is not known before its data is."""
    duration, batch = planned.stage.settings.get("duration"), planned.batch
    if not isinstance(duration, Amount) or batch is None:
        return 0, "it has no duration"
    if duration.unit == "steps":
        return int(duration.number), ""
    if duration.unit == "tokens":
        return math.ceil(duration.number / (batch.total * int(planned.stage.settings.get("max_len")))), ""
    if duration.unit != "epochs":
        return 0, "it trains for a time"
    if planned.stage.settings.get("packing"):
        return 0, "packing decides how many rows there are"
    counted = [rows_of(item, recipe, files) for item in named(planned.stage.settings, "data")]
    if not counted or any(count is None for count in counted):
        return 0, "its rows are not on this machine"
    rows = sum(count or 0 for count in counted)
    limit = planned.stage.settings.get("limit")
    rows = min(rows, limit) if isinstance(limit, int) else rows
    return max(1, math.ceil(rows / batch.total)) * math.ceil(duration.number), ""


def rows_of(item: Term | StageRef, recipe: Recipe, files: Files) -> int | None:
    """Rows a source gives, as far as files on this machine tell; what checks and de-duplication drop is not known yet."""
    if isinstance(item, Term):
        return _of_files(item, recipe.folder, files)
    stage = recipe.find(item.key)
    if stage is None or stage.kind != "data":
        return None
    counted = [rows_of(source, recipe, files) for source in named(stage.settings, "source")]
    if not counted or any(count is None for count in counted):
        return None
    total = sum(count or 0 for count in counted)
    held = {part: _held(stage, part, total) for part in ("eval", "test")}
    return held[item.part] if item.part in held else total - sum(held.values())


def _held(stage: Stage, part: str, total: int) -> int:
    value = stage.settings.get(f"holdout.{part}")
    number = getattr(value, "number", value)
    if not isinstance(number, int | float) or isinstance(number, bool):
        return 0
    return round(total * number) if number < 1 else int(number)


def _of_files(item: Term, folder: Path, files: Files) -> int | None:
    path = local_path(item, folder)
    found = files_of(path, folder, files) if path is not None else []
    counted = [_rows(place, files) for place in found]
    if not counted or any(count is None for count in counted):
        return None
    total = sum(count or 0 for count in counted)
    for word in ("limit", "sample"):
        if isinstance(most := item.options.get(word), int):
            total = min(total, most) if word == "limit" else most
    return total * int(item.options.get("repeat") or 1)


def _rows(path: Path, files: Files) -> int | None:
    try:
        if path.suffix == ".jsonl" or (path.suffix == ".json" and not files.head(path, 64).lstrip().startswith(b"[")):
            return files.lines(path)
        if path.suffix == ".csv":
            return max(0, files.lines(path) - 1)
        if path.suffix == ".json" and files.size(path) <= ARRAY:
            rows = json.loads(files.text(path))
            return len(rows) if isinstance(rows, list) else None
    except (OSError, ValueError):
        return None
    return None
