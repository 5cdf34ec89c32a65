"""The forecast of a planned stage: memory by phase, step time, steps, total time, disk, money; or why there is none."""

from __future__ import annotations

import math

from ftdsl import catalog
from ftdsl.estimate import disk
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.language.values import Amount
from ftdsl.plan.alternatives import Alternative, alternatives
from ftdsl.plan.count_rows import steps_of
from ftdsl.plan.layout_search import LayoutSearch, fitting_row, layout_of
from ftdsl.plan.measured import Here, here
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.plan.search import Cost
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.record import frozen
from ftdsl.runtime.ramp import rows_until
from ftdsl.session import Session

LISTED = "list price"
"""The source of a price from the catalogue, as shown."""


@frozen
class Forecast:
    """The forecast of one training stage.

    cost: None if `unknown` gives a reason; steps: optimizer steps, 0 if `steps_unknown` gives a reason; resumed: the step that
    a training broken off goes on from; seconds: of the steps that are left; disk: bytes of all kept checkpoints; checkpoint:
    bytes of one; bare: bytes of one without the optimizer state; cards: GPUs; price: USD per GPU and hour; priced_by: its
    source; ways: alternatives if it does not fit; here: facts of the machine; longest_row: if it does not fit at `max_len` but
    fits the rows of the local data, the tokens of the longest, else 0; largest: with a ramp, micro-batches of its largest phase
    that make up all steps, otherwise 0.
    """

    key: str
    cost: Cost | None = None
    unknown: str = ""
    steps: int = 0
    steps_unknown: str = ""
    disk: float = 0.0
    checkpoint: float = 0.0
    bare: float = 0.0
    cards: int = 0
    price: float = 0.0
    priced_by: str = ""
    ways: tuple[Alternative, ...] = ()
    here: Here = Here()
    largest: float = 0.0
    longest_row: int = 0
    resumed: int = 0

    @property
    def seconds(self) -> float:
        left = 1 - self.resumed / self.steps if self.resumed < self.steps else 1.0
        return (self.largest or self.steps) * self.cost.seconds * left if self.cost else 0.0

    @property
    def money(self) -> float:
        """USD; 0 if time or price are unknown."""
        return self.seconds / 3600 * self.cards * self.price


def forecasts(plan: Plan, session: Session) -> dict[str, Forecast]:
    """The forecasts of all training stages by key."""
    known: dict[str, Here] = {}
    by_stage = {}
    for planned in plan.stages:
        if planned.batch is not None:
            if planned.world.gpu not in known:
                known[planned.world.gpu] = here(session, plan.recipe, planned.world.gpu)
            by_stage[planned.key] = forecast(planned, plan.recipe, session, known[planned.world.gpu])
    return by_stage


def forecast(planned: PlannedStage, recipe: Recipe, session: Session, known: Here) -> Forecast:
    """The forecast of a stage. Never raises: `unknown` says what is not modelled."""
    stage, world = planned.stage, planned.world
    steps, why = steps_of(planned, recipe, session.files)
    budget, engine = recipe.budget.get("memory", 0.0), planned.engine
    layouts = LayoutSearch(stage, world, recipe, planned.precision, engine, budget, known, session.files)
    layout = layout_of(planned)
    try:
        cost = layouts.cost(layout)
        saved, bare = (disk.checkpoint(layouts.setup(layout), whole) for whole in (_resumable(stage), False))
        longest = 0 if cost.fits else fitting_row(stage, layouts, cost)
        ways = () if cost.fits or not world.gpu else tuple(alternatives(layouts, layout))
    except NotModelledError as error:
        return Forecast(planned.key, unknown=str(error), steps=steps, steps_unknown=why)
    price, whose = price_of(stage)
    return Forecast(
        planned.key, cost, "", steps, why, saved * _kept(stage, steps), saved, bare, world.size if world.gpu else 0, price, whose,
        ways, known, _micro_batches(planned, steps), longest,
    )  # fmt: skip


def _micro_batches(planned: PlannedStage, steps: int) -> float:
    if not planned.ramp or planned.batch is None:
        return 0.0
    return rows_until(planned.ramp, steps, planned.batch.data_parallel) / planned.batch.total


def _resumable(stage: Stage) -> bool:
    return stage.settings.get("save.resumable") is not False


def _kept(stage: Stage, steps: int) -> int:
    """Checkpoints on disk at the end: those written, at most `save.keep`, including the stage's result."""
    every, keep = stage.settings.get("save.every"), stage.settings.get("save.keep")
    made = 1
    if isinstance(every, Amount) and steps:
        made = {"steps": math.ceil(steps / max(1, every.number)), "share": math.ceil(1 / max(0.001, every.number))}.get(
            every.unit, 1
        )
    return min(made, keep) if isinstance(keep, int) and keep > 0 else made


def price_of(stage: Stage) -> tuple[float, str]:
    """(USD per GPU and hour, source); 0 if unknown."""
    price = stage.settings.get("hardware.price")
    number = getattr(price, "number", price)
    if isinstance(number, int | float):
        return float(number), "hardware.price"
    listed = catalog.prices().get(stage.settings.name("hardware.gpu"), 0.0)
    return listed, LISTED if listed else ""
