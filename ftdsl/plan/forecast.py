"""What a planned stage will take: memory by phase, step time, steps, total time, disk, money; or why it cannot be said."""

from __future__ import annotations

import math

from ftdsl import catalog
from ftdsl.estimate import disk
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.language.values import Amount
from ftdsl.plan.alternatives import Alternative, alternatives
from ftdsl.plan.count_rows import steps_of
from ftdsl.plan.layout_search import LayoutSearch, layout_of
from ftdsl.plan.measured import Here, here
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.plan.search import Cost
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.record import frozen
from ftdsl.runtime.ramp import rows_until
from ftdsl.session import Session

LISTED = "list price"
"""Where a price of the catalogue comes from, in words."""


@frozen
class Forecast:
    """Of one training stage. cost: None when `unknown` says why; steps: optimizer steps, 0 when not known (and
    `steps_unknown` says why); seconds: of all steps; disk: bytes of all checkpoints kept; bare: of a checkpoint that cannot
    be gone on from; price: USD an hour and card, and whose; ways: what to change when it does not fit; here: what is known
    of the machine; largest: of a ramp, micro-batches of its largest phase that all steps make up, 0 without one.
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

    @property
    def seconds(self) -> float:
        return (self.largest or self.steps) * self.cost.seconds if self.cost else 0.0

    @property
    def money(self) -> float:
        """USD; 0 when time or price are not known."""
        return self.seconds / 3600 * self.cards * self.price


def forecasts(plan: Plan, session: Session) -> dict[str, Forecast]:
    """Of every training stage of a plan, by key."""
    known: dict[str, Here] = {}
    found = {}
    for one in plan.stages:
        if one.batch is not None:
            if one.world.gpu not in known:
                known[one.world.gpu] = here(session, plan.recipe, one.world.gpu)
            found[one.key] = forecast(one, plan.recipe, session, known[one.world.gpu])
    return found


def forecast(planned: PlannedStage, recipe: Recipe, session: Session, known: Here) -> Forecast:
    """Never raises: what is not modelled is said."""
    stage, world = planned.stage, planned.world
    steps, why = steps_of(planned, recipe, session.files)
    budget, engine = recipe.budget.get("memory", 0.0), planned.engine
    layouts = LayoutSearch(stage, world, recipe, planned.precision, engine, budget, known, session.files)
    layout = layout_of(planned)
    try:
        cost = layouts.cost(layout)
        saved, bare = (disk.checkpoint(layouts.setup(layout), whole) for whole in (_resumable(stage), False))
        ways = () if cost.fits or not world.gpu else tuple(alternatives(layouts, layout))
    except NotModelledError as error:
        return Forecast(planned.key, unknown=str(error), steps=steps, steps_unknown=why)
    price, whose = price_of(stage)
    return Forecast(
        planned.key, cost, "", steps, why, saved * _kept(stage, steps), saved, bare, world.size if world.gpu else 0, price, whose,
        ways, known, _micro_batches(planned, steps),
    )  # fmt: skip


def _micro_batches(planned: PlannedStage, steps: int) -> float:
    if not planned.ramp or planned.batch is None:
        return 0.0
    return rows_until(planned.ramp, steps, planned.batch.data_parallel) / planned.batch.total


def _resumable(stage: Stage) -> bool:
    return stage.settings.get("save.resumable") is not False


def _kept(stage: Stage, steps: int) -> int:
    """Checkpoints that lie there at the end: at most `save.keep` of those made, and what the stage hands on."""
    every, keep = stage.settings.get("save.every"), stage.settings.get("save.keep")
    made = 1
    if isinstance(every, Amount) and steps:
        made = {"steps": math.ceil(steps / max(1, every.number)), "share": math.ceil(1 / max(0.001, every.number))}.get(
            every.unit, 1
        )
    return min(made, keep) if isinstance(keep, int) and keep > 0 else made


def price_of(stage: Stage) -> tuple[float, str]:
    """USD an hour of one card, and who says so; 0 where nobody does."""
    said = stage.settings.get("hardware.price")
    number = getattr(said, "number", said)
    if isinstance(number, int | float):
        return float(number), "hardware.price"
    listed = catalog.prices().get(stage.settings.name("hardware.gpu"), 0.0)
    return listed, LISTED if listed else ""
