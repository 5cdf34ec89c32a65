"""A stage that ran out of GPU memory: the error of the estimate is kept for later plans, and alternatives account for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress

from ftdsl import catalog
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.plan.alternatives import alternatives
from ftdsl.plan.layout_search import LayoutSearch, layout_of
from ftdsl.plan.measured import KINDS, Factors, Here, file_name, folder_of, setup_as_json
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.record import replace
from ftdsl.run.faults import Fault
from ftdsl.run.measured import add_line
from ftdsl.session import Session

CAUSE = "card_out_of_memory"
"""The entry of faults.toml."""

BEYOND = 1.1
"""The factor over the GPU's memory that is assumed to have been needed: the real need is unknown, and an alternative must fit."""


def explained(faults: Iterable[tuple[str, Fault]], plan: Plan, session: Session) -> Iterator[tuple[str, Fault]]:
    """The faults; those for lack of GPU memory with alternatives that fit by more than was missing. Keeps each as measured."""
    for key, fault in faults:
        planned = next((stage for stage in plan.stages if stage.key == key), None)
        if fault.cause == CAUSE and planned is not None and planned.batch is not None and not plan.recipe.smoke:
            fault = _with_ways(fault, planned, plan, session)
        yield key, fault


def _with_ways(fault: Fault, planned: PlannedStage, plan: Plan, session: Session) -> Fault:
    layouts = LayoutSearch(
        planned.stage, planned.world, plan.recipe, planned.precision, planned.engine, files=session.files
    )
    layout = layout_of(planned)
    try:
        cost = layouts.cost(layout)
        factor = max(1.0, BEYOND * cost.bound / cost.need) if cost.bound else 1.0
        ways = alternatives(replace(layouts, here=Here(Factors(factor))), layout)
    except NotModelledError:
        return fault
    with suppress(OSError):  # a measurement that is lost costs no run
        _keep(planned, plan, layouts, cost.bound, session)
    if not ways:
        return fault
    return replace(fault, help="; or ".join(str(way) for way in ways))


def _keep(planned: PlannedStage, plan: Plan, layouts: LayoutSearch, bound: float, session: Session) -> None:
    """A line beside those of runs that ended well: at least this much was needed. Raises: OSError."""
    folder = folder_of(session.env)
    if folder is None or planned.stage.kind not in KINDS or planned.world.gpu not in catalog.gpus() or not bound:
        return
    row = {
        "kind": planned.stage.kind,
        "device": planned.world.gpu,
        "recipe": plan.recipe.name,
        "stage": planned.key,
        "outcome": "oom",
        "memory_bytes": bound,
        "step_seconds": 1.0,
        "setup": setup_as_json(layouts.setup(layout_of(planned))),
    }
    versions = plan.recipe.versions
    add_line(folder / file_name(versions.engine, versions.of()), json.dumps(row, ensure_ascii=False))
