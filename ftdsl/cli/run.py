"""`ftc run FILE`: compiles a recipe and carries its stages out, with a live view; what is done is not done again."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments, keep_lock, options_of, recipe_path, show

if TYPE_CHECKING:
    from ftdsl.cli.ending import Outcome
    from ftdsl.engines.jobs import Job
    from ftdsl.observe.progress import StageProgress, View
    from ftdsl.run.environments import Environment
    from ftdsl.session import Session
    from ftdsl.targets.compiled import Compiled


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("run", help="carry a recipe out", description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recipe (several with --smoke)")
    add_recipe_arguments(parser)
    parser.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage and what it needs")
    parser.add_argument("--force", action="append", default=[], metavar="STAGE", help="again, though it is done")
    parser.add_argument("--smoke", action="store_true", help="try all stages here in small: toy models, few rows")
    parser.add_argument("--fresh", action="store_true", help="a new run folder in which nothing is done")
    parser.add_argument("--frozen", action="store_true", help="refuse to differ from the recipe's lock")
    parser.add_argument("--engine-python", default="", metavar="P", help="the engine's Python")
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="stages side by side at most")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live view")
    parser.add_argument(
        "--output-format", choices=("text", "json", "github"), default="text", help="of what is said at the end"
    )
    parser.add_argument("--json", action="store_const", const="json", dest="output_format", help="--output-format json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 when a recipe or a stage fails; 3 when a gate refuses; 130 when interrupted."""
    from ftdsl.cli import ending

    if len(args.files) > 1 and not args.smoke:
        print("error: one recipe at a time; several go together with --smoke", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    for file in args.files:
        outcomes.append(_outcome(file, args))
        if args.output_format != "json":
            ending.tell(outcomes[-1], smoke=args.smoke)
        if outcomes[-1].status == 130:
            break
    if args.output_format == "json":
        ending.print_json(outcomes, smoke=args.smoke)
    elif len(args.files) > 1:
        ending.tell_all(outcomes)
    if args.output_format == "github":
        ending.print_github(outcomes)
    return ending.status_of(outcomes)


def _outcome(file: str, args: argparse.Namespace) -> Outcome:
    """One recipe, compiled and carried out as far as it goes."""
    from ftdsl.cli.ending import Outcome
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.environments import NoEngineError
    from ftdsl.run.prepare import UnknownStageError
    from ftdsl.run.store import BusyError
    from ftdsl.session import Session

    session, outcome = Session(engine_python=args.engine_python), Outcome(file, time.monotonic())
    path, options = recipe_path(file), options_of(args)
    compiled = compile_recipe(path, options, session, frozen=args.frozen, smoke=args.smoke)
    show(session.sink)
    outcome.found = list(session.sink.ordered())
    if compiled is None:
        if not session.sink.failed:
            outcome.said = "nothing to run: no stages in it"
            print(f"{file}: {outcome.said}", file=sys.stderr)
        return outcome.ended(1 if session.sink.failed else 0 if args.smoke else 2)
    outcome.compiled = compiled
    if not args.frozen and not args.smoke:
        keep_lock(compiled)
    try:
        return _carried_out(compiled, args, session, outcome)
    except (NoEngineError, UnknownStageError, BusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        outcome.said = str(error)
        return outcome.ended(1)


def _carried_out(compiled: Compiled, args: argparse.Namespace, session: Session, outcome: Outcome) -> Outcome:
    from ftdsl.observe.progress import Status
    from ftdsl.run import prepare, store
    from ftdsl.run.execute import Executor
    from ftdsl.run.faults import warned
    from ftdsl.run.keys import keys_of
    from ftdsl.run.resources import of_this_machine

    gc.enable()
    engine = compiled.plan.recipe.engine
    view = _view(args)
    wanted = prepare.Wanted(tuple(args.only), tuple(args.force), args.fresh or args.smoke)
    jobs = prepare.selected(compiled.jobs, wanted)
    environment = _environment(jobs, compiled, args)
    if environment.has(engine.name):
        view.note(f"engine: {environment.said(engine.name)}, found by {environment.source}")
    resources = of_this_machine(os.environ, args.jobs)
    home = Path("runs") / (f"{compiled.name}.smoke" if args.smoke else compiled.name)  # never found by a real run
    for text in compiled.replaced_lines():
        view.note(text)
    with store.locked(home):
        keys = keys_of(jobs, compiled.files, compiled.folder, environment.packages, session)
        folder, outcome.progress = prepare.prepare(compiled, jobs, keys, wanted, home)
        todo = [stage.job for stage in outcome.progress.stages if stage.status is Status.WAITING]
        if obstacles := prepare.obstacles(todo, environment, resources, compiled.plan.recipe.versions):
            outcome.broke(obstacles)
            return outcome.ended(1)
        executor = Executor(folder, jobs, keys, environment.python, resources, view, outcome.progress)
        executor.when_done = partial(_ended, outcome=outcome, view=view, session=session)
        for stage in outcome.progress.having(Status.CACHED):
            _prepared(stage, outcome, view)
            outcome.warned((stage.key, fault) for fault in warned(folder.folder / stage.folder / "metrics.jsonl"))
        if todo:
            executor.execute()
    outcome.nothing = not todo
    outcome.broke(list(executor.faults.items()))
    outcome.warned([*executor.warnings, *prepare.lacking(compiled, environment)])
    failed, refused = (outcome.progress.having(status) for status in (Status.FAILED, Status.REFUSED))
    return outcome.ended(130 if executor.asked_to_stop else 1 if failed else 3 if refused else 0)


def _ended(stage: StageProgress, outcome: Outcome, view: View, session: Session) -> None:
    """A stage that has ended well: what it measured is kept for later plans."""
    from ftdsl.run import measured

    _prepared(stage, outcome, view)
    assert outcome.progress is not None and outcome.compiled is not None
    plan = outcome.compiled.plan
    try:
        kept = measured.keep(stage.key, plan, outcome.progress.folder / stage.folder, session)
    except OSError as error:
        view.note(f"note: what {stage.folder} measured could not be kept ({(error.strerror or str(error)).lower()})")
        return
    if kept:
        view.note(f"{stage.folder}: {kept}")


def _prepared(stage: StageProgress, outcome: Outcome, view: View) -> None:
    """Of a data stage that is done: where its card lies, and which stages would cut its rows."""
    from ftdsl.run.lengths import cut, read_report

    if stage.job.kind != "data" or outcome.progress is None or outcome.compiled is None:
        return
    folder = outcome.progress.folder / stage.folder
    if (folder / "card.html").exists():
        view.note(f"{stage.folder}: data card {(folder / 'card.html').as_posix()}")
    plan = outcome.compiled.plan
    found = [] if plan.recipe.smoke else list(cut(plan, stage.key, read_report(folder) or {}))
    for one in found:
        view.note(f"warning: {one.message} ({one.span.where if one.span else ''})")
    outcome.problems += found


def _environment(jobs: tuple[Job, ...], compiled: Compiled, args: argparse.Namespace) -> Environment:
    """The engine's Python; where only data is prepared this one will do, and scripts need none. Raises: NoEngineError."""
    from ftdsl.recipe.build import python_of
    from ftdsl.run.environments import NoEngineError, find, this_python
    from ftdsl.run.keys import uses_engine

    engine = compiled.plan.recipe.engine
    needed = any(uses_engine(job) for job in jobs)
    if not needed and not any(job.packages for job in jobs):
        return this_python()
    try:
        named = python_of(engine, compiled.folder)
        return find(engine.name, os.environ, flag=args.engine_python, recipe=named, folder=compiled.folder)
    except NoEngineError:
        if needed:
            raise
        return this_python()


def _view(args: argparse.Namespace) -> View:
    if sys.stderr.isatty() and not args.plain and os.environ.get("TERM") != "dumb":
        from ftdsl.observe.live import LiveView

        return LiveView()
    from ftdsl.observe.plain import Plain

    return Plain(sys.stderr)
