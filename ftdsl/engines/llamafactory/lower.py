"""Planned stages to jobs: each kind by its own module, in an order in which each job comes after those it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftdsl.engines.jobs import Job
from ftdsl.engines.llamafactory.best import best_folders, lower_best
from ftdsl.engines.llamafactory.datasets import passes_through
from ftdsl.engines.llamafactory.merging import merge, quantise
from ftdsl.engines.llamafactory.places import Places
from ftdsl.engines.llamafactory.preparing import lower_data
from ftdsl.engines.llamafactory.scoring import score
from ftdsl.engines.llamafactory.scratch import lower_scratch, scratch_folders
from ftdsl.engines.llamafactory.scripting import lower_shell
from ftdsl.engines.llamafactory.training import STAGES, train
from ftdsl.engines.llamafactory.work import Work
from ftdsl.lint.versions import check_versions
from ftdsl.plan.plan import Plan
from ftdsl.session import Session

KINDS: dict[str, Callable[[Work], Job]] = {
    "data": lower_data, "shell": lower_shell, "eval": score, "merge": merge, "quantize": quantise, **dict.fromkeys(STAGES, train)
}  # fmt: skip


def lower(plan: Plan, session: Session) -> tuple[Job, ...]:
    """All jobs in an order in which each comes after those it needs."""
    check_versions(plan.recipe.versions, plan.recipe.span, session.sink)
    places = Places(plan, scratch_folders(plan), best_folders(plan))
    jobs = [*lower_scratch(plan, places, session), *lower_best(plan, places, session)]
    for planned in plan.stages:
        if not planned.stage.sound:
            continue
        job = _lower_stage(Work(planned, plan, places, session))
        if job is not None:
            jobs.append(job)
    return tuple(_ordered([*jobs, *places.shared.values()]))


def _lower_stage(work: Work) -> Job | None:
    kind = work.stage.kind
    if kind == "data" and passes_through(work.stage.settings):
        return None
    if kind in KINDS:
        return KINDS[kind](work)
    work.session.sink.error("FT012", f"`{kind}` stages cannot be compiled for LLaMA-Factory yet", work.stage.span)
    return None


def _ordered(jobs: list[Job]) -> Iterator[Job]:
    """Each after those it needs, else in the order given."""
    left = {job.key: job for job in jobs}
    while left:
        ready = next((job for job in left.values() if not any(need in left for need in job.needs)), None)
        if ready is None:
            raise AssertionError("the resolver lets no cycle through")
        yield left.pop(ready.key)
