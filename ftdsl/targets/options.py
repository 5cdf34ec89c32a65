"""What a recipe says of its target (`target = slurm(partition = "gpu")`), for each job: the file's options, and over them those
of the job's stage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.language.values import Term
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.session import Session
from ftdsl.source import Span

CODE = "FT097"
"""What a target cannot do with what the recipe asks of it."""

NAME = r"[\w.,:@/+=\[\]&|*()%~ -]+"
"""Names of partitions, accounts, images and the like: no control characters, quotes or expansions."""


def named(plan: Plan) -> str:
    """The target that the recipe names; "" if none."""
    return plan.recipe.target.name if plan.recipe.target else ""


def options_of(plan: Plan, job: Job, target: str) -> Mapping[str, Any]:
    """The options of a target for one job; none of another target's."""
    planned = stage_of(plan, job)
    terms = (plan.recipe.target, planned.stage.settings.get("target") if planned else None)
    known = [term.options for term in terms if isinstance(term, Term) and term.name == target]
    return {name: value for options in known for name, value in options.items() if value is not None}


def stage_of(plan: Plan, job: Job) -> PlannedStage | None:
    """The stage of a job; None for jobs that several stages share."""
    return next((planned for planned in plan.stages if planned.key == job.key), None)


def span_of(plan: Plan, job: Job, key: str = "target") -> Span:
    """Where the recipe sets a key for a job, else the stage, else the file."""
    planned = stage_of(plan, job)
    if planned is None:
        return plan.recipe.span
    spans = planned.stage.spans
    return spans.get(key) or spans.get(key.split(".")[0]) or spans.get("target") or planned.stage.span


def check_named(plan: Plan, session: Session) -> None:
    """A recipe has one target; a stage changes only its options."""
    target = named(plan)
    for planned in plan.stages:
        own = planned.stage.settings.get("target")
        if isinstance(own, Term) and own.name != (target or own.name):
            text = f"`{planned.key}` names the target `{own.name}`, and the recipe `{target}`"
            help = f"a stage changes options only: `target = {target}(time = 1h)`"
            session.sink.error(CODE, text, planned.stage.spans.get("target", planned.stage.span), help=help)


def check_texts(plan: Plan, jobs: tuple[Job, ...], target: str, session: Session, *, title: str) -> None:
    """Every text among the options is a name: nothing that a file format or a shell would read otherwise."""
    for job in jobs:
        for name, value in options_of(plan, job, target).items():
            for text in value if isinstance(value, list | tuple) else (value,):
                if isinstance(text, str) and not re.fullmatch(NAME, text):
                    refuse(plan, job, session, f"`{name} = {text!r}` is no name that {title} takes")


def refuse(plan: Plan, job: Job, session: Session, text: str, *, key: str = "target", help: str = "") -> None:
    """An error at the recipe's line."""
    session.sink.error(CODE, text, span_of(plan, job, key), help=help)
