"""What trains. One folder an engine: `lower(plan, session)` turns planned stages into jobs, `reasons(plan, job)` says why."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftdsl.engines.jobs import Job, Reasons
    from ftdsl.plan.plan import Plan
    from ftdsl.session import Session

ENGINES = {"llamafactory": "ftdsl.engines.llamafactory.lower"}


def lower(plan: Plan, session: Session) -> tuple[Job, ...]:
    """The jobs of a plan, by the engine its recipe names."""
    name = plan.recipe.engine.name
    module = ENGINES.get(name)
    if module is None:
        session.sink.error(
            "FT012", f"the engine `{name}` is not built in", plan.recipe.span, help=f"engines: {', '.join(ENGINES)}"
        )
        return ()
    jobs: tuple[Job, ...] = import_module(module).lower(plan, session)
    return jobs


def reasons(plan: Plan, job: Job) -> Reasons:
    """Why each line of a job stands as it does."""
    planned = next((one for one in plan.stages if one.key == job.key), None)
    package = ENGINES[plan.recipe.engine.name].rpartition(".")[0]
    found: Reasons = import_module(f"{package}.reasons").reasons(planned, job)
    return found
