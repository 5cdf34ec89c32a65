"""`ftc run FILE`: compiles a recipe and runs its stages, with a live view; finished stages are not run again."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments, keep_lock, options_of, recipe_path, show

if TYPE_CHECKING:
    from ftdsl.observe.progress import View
    from ftdsl.run.outcome import Outcome
    from ftdsl.run.stop import Stop
    from ftdsl.session import Session
    from ftdsl.targets.compiled import Compiled


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("run", help="run a recipe", description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recipe (several with --smoke)")
    add_recipe_arguments(parser)
    parser.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage and what it needs")
    parser.add_argument(
        "--force", action="append", default=[], metavar="STAGE", help="run it again, even if it is finished"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="test all stages on this machine with toy models and few rows"
    )
    parser.add_argument("--fresh", action="store_true", help="use a new run folder, without finished stages")
    parser.add_argument("--frozen", action="store_true", help="fail if anything differs from the recipe's lock")
    parser.add_argument("--engine-python", default="", metavar="P", help="the engine's Python")
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="maximum number of stages at the same time")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live view")
    parser.add_argument(
        "--output-format", choices=("text", "json", "github"), default="text", help="of the report at the end"
    )
    parser.add_argument("--json", action="store_const", const="json", dest="output_format", help="--output-format json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if a recipe or a stage fails; 3 if a gate fails; 130 if interrupted."""
    from ftdsl.cli import ending
    from ftdsl.run.outcome import INTERRUPTED, status_of
    from ftdsl.run.stop import Stop

    if len(args.files) > 1 and not args.smoke:
        print("error: run one recipe at a time (several only with --smoke)", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    with _signals(Stop()) as stop:
        for file in args.files:
            outcomes.append(_outcome(file, args, stop))
            if args.output_format != "json":
                ending.show_outcome(outcomes[-1], smoke=args.smoke)
            if outcomes[-1].status == INTERRUPTED:
                break
    if args.output_format == "json":
        ending.print_json(outcomes, smoke=args.smoke)
    elif len(args.files) > 1:
        ending.show_all(outcomes)
    if args.output_format == "github":
        ending.print_github(outcomes)
    return status_of(outcomes)


@contextmanager
def _signals(stop: Stop) -> Iterator[Stop]:
    """The first Ctrl-C (or SIGTERM, or SIGHUP when the terminal closes) asks the stages to stop and keeps what is finished;
    the second kills them.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.stop()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(file: str, args: argparse.Namespace, stop: Stop) -> Outcome:
    """Compile and run one recipe."""
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.environments import NoEngineError
    from ftdsl.run.outcome import Outcome
    from ftdsl.run.prepare import UnknownStageError
    from ftdsl.run.store import BusyError
    from ftdsl.session import Session

    session, outcome = Session(engine_python=args.engine_python), Outcome(file)
    path, options = recipe_path(file), options_of(args)
    compiled = compile_recipe(path, options, session, frozen=args.frozen, smoke=args.smoke)
    show(session.sink)
    outcome.diagnostics = list(session.sink.ordered())
    if compiled is None:
        if not session.sink.failed:
            outcome.message = "nothing to run: no stages in it"
            print(f"{file}: {outcome.message}", file=sys.stderr)
        return outcome.ended(1 if session.sink.failed else 0 if args.smoke else 2)
    outcome.compiled = compiled
    if not args.frozen and not args.smoke:
        keep_lock(compiled)
    try:
        result = _carry_out(compiled, args, session, stop)
    except (NoEngineError, UnknownStageError, BusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        outcome.message = str(error)
        return outcome.ended(1)
    result.file, result.began, result.diagnostics = file, outcome.began, outcome.diagnostics
    return result.ended(result.status)


def _carry_out(compiled: Compiled, args: argparse.Namespace, session: Session, stop: Stop) -> Outcome:
    from ftdsl.run.carry_out import carry_out, environments_of
    from ftdsl.run.prepare import Wishes, selected

    wishes = Wishes(tuple(args.only), tuple(args.force), args.fresh, args.jobs)
    jobs = selected(compiled.jobs, wishes)
    environments = environments_of(jobs, compiled, session.env, python=args.engine_python)
    view = _view(args)
    for name in dict.fromkeys(job.environment for job in jobs if job.environment):
        view.note(f"engine: {environments[name].said(name)}, found by {environments[name].source}")
    return carry_out(compiled, wishes, environments, view, session=session, stop=stop)


def _view(args: argparse.Namespace) -> View:
    if sys.stderr.isatty() and not args.plain and os.environ.get("TERM") != "dumb":
        from ftdsl.observe.live import LiveView

        return LiveView()
    from ftdsl.observe.plain import Plain

    return Plain(sys.stderr)
