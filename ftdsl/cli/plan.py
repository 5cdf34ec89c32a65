"""`ftc plan FILE`: what would run and why, and its cost: layout, memory, time, disk, money; alternatives if it does not fit."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from ftdsl.cli.common import (
    add_no_data,
    add_recipe_arguments,
    color,
    options_of,
    print_diff,
    read_exactly,
    recipe_path,
    recipes_in,
    retyped,
    rewrite,
    show,
)  # fmt: skip
from ftdsl.cli.edited import edited
from ftdsl.record import replace

if TYPE_CHECKING:
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.observe.outlook import StudyOutlook
    from ftdsl.observe.plan_text import PlanView
    from ftdsl.pipeline import Checked
    from ftdsl.plan.forecast import Forecast
    from ftdsl.plan.plan import Plan
    from ftdsl.run.job_requests import JobRequest
    from ftdsl.session import Session

WOULD_RUN = 4
"""Exit status with --exit-code if `ftc run` would run something."""

SHOWN_IN_PLAN = ("FT701", "FT703")
"""Errors that do not prevent the plan, which shows their reason and the alternatives."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("plan", help="show what would run, and its cost", description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="recipes, or folders of them")
    add_recipe_arguments(parser)
    add_no_data(parser)
    parser.add_argument(
        "--target", default="", metavar="T", help="what the jobs would ask it for (default: the recipe's)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument(
        "--exit-code", action="store_true", help=f"exit {WOULD_RUN} when something would run, 0 when nothing"
    )
    parser.add_argument("--engine-python", default="", metavar="P", help="the engine's Python, as for ftc run")
    parser.add_argument("--apply", type=int, metavar="N", help="write alternative N into the recipe")
    parser.add_argument("--stage", metavar="S", help="with --apply: of this stage (else the first that does not fit)")
    parser.add_argument("--diff", action="store_true", help="with --apply: show the change, and change nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 if everything that can be estimated fits; 1 if something does not fit, is over the budget, or the recipe has
    errors; 2 for wrong usage; with --exit-code 4 if something would run.
    """
    args.files = recipes_in(args.files)
    if args.apply is not None and len(args.files) > 1:
        print("error: --apply changes one recipe at a time", file=sys.stderr)
        return 2
    statuses, documents = [], []
    for file in args.files:
        status, document = _plan(file, args)
        statuses.append(status)
        documents.append(document)
    if args.json and args.apply is None:
        single = len(documents) == 1
        print(json.dumps(documents[0] if single else {"recipes": documents}, indent=1, ensure_ascii=False))
    return next((status for status in (1, 2, WOULD_RUN) if status in statuses), 0)


def _plan(file: str, args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """(exit status, plan as data) of one recipe; prints the plan as text without --json."""
    from ftdsl.diagnostics import Severity
    from ftdsl.diagnostics.view import view
    from ftdsl.observe.plan_json import document
    from ftdsl.observe.plan_text import lines
    from ftdsl.pipeline import check
    from ftdsl.session import Session
    from ftdsl.targets.options import named

    session = Session(elsewhere=args.no_data, engine_python=args.engine_python)
    path = recipe_path(file)
    checked = check(path, options_of(args), session)
    errors = [diagnostic for diagnostic in session.sink.ordered() if diagnostic.severity is Severity.ERROR]
    if checked.plan is None or any(error.code not in SHOWN_IN_PLAN for error in errors):
        show(session.sink)
        if not errors:
            print(f"{file}: nothing to plan: no stages in it", file=sys.stderr)
        return (1 if errors else 2 if len(args.files) == 1 else 0), {"file": file, "problems": view(errors)}
    plan_view = replace(
        _plan_view(checked, session, path, options_of(args)),
        study=_outlook(checked, path, args) if args.apply is None else None,
    )
    if args.apply is not None:
        return _apply(args, path, checked.plan, dict(plan_view.forecasts)), {}
    tight = [
        forecast
        for forecast in plan_view.forecasts.values()
        if forecast.cost is not None and not forecast.cost.fits and not forecast.longest_row
    ]
    requests = _requests(checked, args.target, session)
    errors += [request.problem for request in requests or () if request.problem]
    if requests is None:
        show(session.sink)
        return 1, {"file": file, "problems": view(session.sink.ordered())}
    if not args.json:
        if len(args.files) > 1:
            print(f"{'' if file == args.files[0] else chr(10)}{file}\n")
        width = get_terminal_size((100, 24)).columns
        print("\n".join(lines(plan_view, width=width, color=color(sys.stdout))), flush=True)
        _print_requests(requests, args.target or named(checked.plan))
        refused = any(request.problem for request in requests)
        _hints(retyped(file, args), plan_view, tight, session, args.target or named(checked.plan), refused=refused)
    would = any(status.runs for status in plan_view.statuses.values())
    status = 1 if tight or errors else WOULD_RUN if would and args.exit_code else 0
    if requests:
        rows = [{"stage": request.key, "asks": request.text, "answer": request.answer} for request in requests]
        asking = {"target": {"name": args.target or named(checked.plan), "jobs": rows}}
    else:
        asking = {}
    known = asking | {"name": checked.plan.recipe.name, "file": file, "would_run": would, "stages": document(plan_view)}
    if plan_view.study is not None:
        known["search"] = plan_view.study.document()
    return status, known | {"problems": view(errors)}


def _outlook(checked: Checked, path: Path, args: argparse.Namespace) -> StudyOutlook | None:
    """What the study takes, of a recipe that searches."""
    from ftdsl.recipe.search import is_searched

    assert checked.plan is not None
    if args.no_data or not is_searched(checked.plan.recipe):
        return None
    from ftdsl.search.outlook import outlook_of
    from ftdsl.search.trial import TrialSource

    return outlook_of(TrialSource(path, options_of(args), args.engine_python), checked.plan.recipe)


def _requests(checked: Checked, name: str, session: Session) -> list[JobRequest] | None:
    """What the jobs ask their target for; None when there is no such target, or it cannot run them."""
    from ftdsl.diagnostics import Severity
    from ftdsl.run.job_requests import job_requests
    from ftdsl.targets import registry
    from ftdsl.targets.options import check_named, named

    def errors() -> int:
        return sum(diagnostic.severity is Severity.ERROR for diagnostic in session.sink)

    plan = checked.plan
    assert plan is not None
    name = name or named(plan) or registry.DEFAULT
    target, before = registry.get(name), errors()
    if target is None:
        help = f"targets: {', '.join(registry.names())}"
        session.sink.error("FT086", f"unknown target `{name}`", plan.recipe.span, help=help)
        return None
    check_named(plan, session)
    target.check(plan, checked.jobs, session)
    return job_requests(plan, checked.jobs, target, session.env) if errors() == before else None


def _print_requests(requests: list[JobRequest], target: str) -> None:
    """What is asked for, with what the scheduler answers."""
    from ftdsl.diagnostics import Sink
    from ftdsl.observe.table import columns

    if not requests:
        return
    print(f"\n{target}:")
    rows = [
        (f"  {request.key}", request.text, request.answer if not request.problem else "refused") for request in requests
    ]
    print("\n".join(columns(rows)))
    sink = Sink()
    for request in requests:
        if request.problem:
            sink.add(request.problem)
    show(sink)


def _hints(
    file: str, plan_view: PlanView, tight: list[Forecast], session: Session, target: str, *, refused: bool
) -> None:
    """Print what is over the budget, and the next command."""
    from ftdsl.diagnostics import Sink
    from ftdsl.run.launchers import registry as launchers

    over = [diagnostic for diagnostic in session.sink.ordered() if diagnostic.code == "FT703"]
    if over:
        sink = Sink()
        for diagnostic in over:
            sink.add(diagnostic)
        show(sink)
    if tight and tight[0].ways:
        print(f"next: ftc plan {file} --apply 1 (--diff only shows it)", file=sys.stderr)
    elif not tight and not over and not refused and any(status.runs for status in plan_view.statuses.values()):
        verb = "run" if not target or target in launchers.names() else f"compile --target {target}"
        print(f"next: ftc {verb} {file}", file=sys.stderr)


def _plan_view(checked: Checked, session: Session, path: Path, options: Options) -> PlanView:
    """Everything that is shown. Reads runs and measurements, and starts nothing."""
    from ftdsl.observe.plan_text import PlanView
    from ftdsl.plan.forecast import forecasts
    from ftdsl.plan.untrained import footprint
    from ftdsl.run.measured import compared
    from ftdsl.run.project import home_of
    from ftdsl.run.status import stage_statuses

    plan = checked.plan
    assert plan is not None
    home = home_of(path, plan.recipe.name, options)
    by_stage = forecasts(plan, session)
    statuses = stage_statuses(plan, checked.jobs, home, session, home_of(path, plan.recipe.name))
    by_stage = {
        key: replace(forecast, resumed=statuses[key].step) if key in statuses else forecast
        for key, forecast in by_stage.items()
    }
    planned = {stage.key for stage in plan.stages}
    measured = {}
    for key, forecast in by_stage.items():
        if key in statuses and (folder := statuses[key].folder):
            measured[key] = compared(plan.stage(key), plan, Path(folder), forecast.here)
    return PlanView(
        plan,
        by_stage,
        {stage.key: footprint(stage, plan, session.files) for stage in plan.stages if stage.key not in by_stage},
        statuses,
        {key: comparison for key, comparison in measured.items() if comparison is not None},
        {job.key: job.title for job in checked.jobs if job.key not in planned},
    )


def _apply(args: argparse.Namespace, path: Path, plan: Plan, forecasts: dict[str, Forecast]) -> int:
    """Write an alternative into the recipe."""
    tight = [
        forecast
        for forecast in forecasts.values()
        if forecast.ways and args.stage in (None, forecast.key, plan.stage(forecast.key).stage.name)
    ]
    if not tight:
        print("error: every stage fits; there are no alternatives", file=sys.stderr)
        return 2
    ways = tight[0].ways
    if not 1 <= args.apply <= len(ways):
        print(f"error: `{tight[0].key}` has {len(ways)} alternatives", file=sys.stderr)
        return 2
    before = read_exactly(path)
    if before is None:
        return 1
    after = edited(path, before, plan.stage(tight[0].key).stage.name, ways[args.apply - 1].edits)
    if after is None:
        return 1
    if args.diff:
        print_diff(args.files[0], before, after, f"alternative {args.apply}")
        return 0
    if not rewrite(path, before, after):
        return 1
    print(f"{args.files[0]}: {ways[args.apply - 1]}", file=sys.stderr)
    return 0
