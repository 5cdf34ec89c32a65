"""`best(stage, lowest(eval_loss))`: a job that chooses one of several finished runs; its result is that run's result."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import RunPaths, written_id
from ftdsl.engines.shared.scratch import job_key
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import Plan, PlannedStage, number_of, numbered
from ftdsl.session import Session

DEFAULT = Term("lowest", {"metric": "eval_loss"})
METRICS = ("eval_loss", "train_loss", "first_loss", "last_loss")
"""Metrics in the result of a training stage (runtime/llamafactory.py)."""


def _choices(plan: Plan) -> dict[str, tuple[Term, PlannedStage]]:
    """Every choice by its id, with the first stage that starts from it."""
    choices: dict[str, tuple[Term, PlannedStage]] = {}
    for planned in plan.stages:
        start = planned.stage.start
        for where in (start.base, *start.adapters) if start else ():
            if isinstance(where, Term) and where.name == "best":
                choices.setdefault(written_id(where), (where, planned))
    return choices


def _runs(term: Term) -> tuple[StageRef, ...]:
    refs: tuple[StageRef, ...] = term.options["stage"]
    return refs


def best_folders(plan: Plan) -> dict[str, str]:
    """Folders by id, numbered after the runs to choose from."""
    folders = {}
    for at, (name, (term, _)) in enumerate(_choices(plan).items()):
        last = max(number_of(plan.stage(ref.key).folder) for ref in _runs(term))
        suffix = "" if at == 0 else f"-{at + 1}"
        folders[name] = numbered(plan.stages[0].folder, last + 4, f"best-{_runs(term)[0].stage}{suffix}")
    return folders


def lower_best(plan: Plan, paths: RunPaths, session: Session) -> list[Job]:
    """A job for each choice."""
    return [_job(plan, paths, term, user, session) for term, user in _choices(plan).values()]


def _job(plan: Plan, paths: RunPaths, term: Term, user: PlannedStage, session: Session) -> Job:
    folder = paths.best[written_id(term)]
    order = term.options.get("by") or DEFAULT
    metric = order.options["metric"]
    _check(plan, term, str(metric), user, session)
    spec: dict[str, Any] = {
        "stage": folder,
        "metric": metric,
        "order": order.name,
        "runs": [{"stage": paths.folder(ref), "run": ref.run, "result": paths.result(ref)} for ref in _runs(term)],
    }
    document = Document(f"{folder}/best.json", "json", spec)
    span = user.stage.spans.get("model", user.stage.span)
    return Job(
        key=job_key(folder),
        folder=folder,
        kind="best",
        title=f"the run of {_runs(term)[0].stage} with the {order.name} {metric}",
        needs=tuple(ref.key for ref in _runs(term)),
        documents=(document,),
        commands=(Command((PYTHON, "runtime/best.py", document.path)),),
        runtime=("__init__", "best", "events"),
        result=f"{folder}/result",
        result_kind="adapter" if term in (user.stage.start.adapters if user.stage.start else ()) else "model",
        location=plan.recipe.location(span),
    )


def _check(plan: Plan, term: Term, metric: str, user: PlannedStage, session: Session) -> None:
    """An error if the finished runs do not have the metric."""
    span = user.stage.spans.get("model", user.stage.span)
    name = _runs(term)[0].stage
    if metric not in METRICS:
        session.sink.error(
            "FT012", f"the runs of `{name}` have no `{metric}`", span, help=f"one of: {', '.join(METRICS)}"
        )
    elif metric == "eval_loss" and not plan.stage(_runs(term)[0].key).stage.settings.get("evaluate.data"):
        help = f"write `evaluate {{ data = 5% }}` in `{name}`"
        session.sink.error("FT012", f"`{name}` evaluates nothing, so its runs have no `eval_loss`", span, help=help)
