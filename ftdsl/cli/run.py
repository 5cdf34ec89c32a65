"""`ftc run FILE`: compiles a recipe and runs its stages, with a live view; finished stages are not run again."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments, keep_lock, options_of, recipe_path, retyped, show

if TYPE_CHECKING:
    from ftdsl.diagnostics import Sink
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.observe.progress import View
    from ftdsl.run.outcome import Outcome
    from ftdsl.run.stop import Stop
    from ftdsl.search.trial import TrialSource
    from ftdsl.session import Session
    from ftdsl.targets.compiled import Compiled


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("run", help="run a recipe", description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recipe (several with --smoke)")
    add_recipe_arguments(parser)
    parser.add_argument(
        "--target", default="", metavar="T", help="what starts the stages (default: as the recipe says)"
    )
    parser.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage and what it needs")
    parser.add_argument("--force", action="append", default=[], metavar="STAGE", help="again, though it is done")
    parser.add_argument("--smoke", action="store_true", help="try all stages here in small: toy models, few rows")
    parser.add_argument("--fresh", action="store_true", help="a new run folder in which nothing is done")
    parser.add_argument("--verify", action="store_true", help="read all results, not just their sizes and times")
    parser.add_argument("--frozen", action="store_true", help="refuse to differ from the recipe's lock")
    parser.add_argument("--engine-python", default="", metavar="P", help="the engine's Python")
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="stages side by side at most")
    parser.add_argument("--detach", action="store_true", help="start it and leave: ftc watch, ftc cancel")
    parser.add_argument("--foreground", action="store_true", help="no supervisor: it ends with this process")
    parser.add_argument("--no-preload", action="store_true", help="every stage imports the engine by itself")
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

    if len(args.files) > 1 and not args.smoke:
        stage = "" if args.files[1].endswith(".ft") or Path(args.files[1]).exists() else args.files[1]
        hint = f"; one stage: --only {stage}" if stage else " (several only with --smoke)"
        print(f"error: run one recipe at a time{hint}", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    for file in args.files:
        outcomes.append(_outcome(file, args))
        if args.output_format != "json":
            ending.show_outcome(outcomes[-1], smoke=args.smoke, recipe=retyped(file, args))
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
def _signals(ask: Callable[[int], object], *, leave: bool) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) asks the stages to stop and keeps what is done; the second kills them. The end of the
    terminal does the same, unless a supervisor goes on without it (leave).
    """

    def gone(*_: object) -> None:
        os._exit(128 + signal.SIGHUP)

    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda number, _: ask(number))
    if leave:
        handlers[signal.SIGHUP] = gone
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(file: str, args: argparse.Namespace) -> Outcome:
    """One recipe, compiled and carried out as far as it goes."""
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.carry_out import NoLauncherError
    from ftdsl.run.environments import NoEngineError
    from ftdsl.run.outcome import Outcome
    from ftdsl.run.prepare import StillRunningError, UnknownStageError
    from ftdsl.run.store import BusyError
    from ftdsl.run.supervise import SupervisorError
    from ftdsl.search.errors import MissingPackageError
    from ftdsl.session import Session

    session, outcome = Session(engine_python=args.engine_python), Outcome(file)
    path, options = recipe_path(file), options_of(args)
    if (finished := _all_done(file, path, options, args)) is not None:
        return finished
    compiled = compile_recipe(
        path, options, session, frozen=args.frozen, smoke=args.smoke, study=not args.smoke, target=args.target
    )
    source = _searched(path, options, compiled, args)
    if source is not None:
        from ftdsl.search.trial import representative

        compiled, session = representative(source)
    show(session.sink, without=CHOSEN)
    _count_choices(session.sink, retyped(file, args))
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
        carried_out = _carry_out(compiled, path, args, session, source)
    except (
        NoEngineError,
        NoLauncherError,
        UnknownStageError,
        BusyError,
        StillRunningError,
        SupervisorError,
        MissingPackageError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        outcome.message = str(error)
        return outcome.ended(1)
    carried_out.file, carried_out.began, carried_out.compiled = file, outcome.began, compiled
    carried_out.diagnostics = outcome.diagnostics
    return carried_out.ended(carried_out.status)


def _all_done(file: str, path: Path, options: Options, args: argparse.Namespace) -> Outcome | None:
    """The outcome where nothing is to be done, as `ftc plan` sees it; None where something may be, or all is looked at anew."""
    from ftdsl.run.project import home_of, root_of

    if args.smoke or args.fresh or args.force or args.only or args.verify or args.frozen:
        return None
    if not any((root_of(path) / "runs").glob("*/last")):
        return None
    from ftdsl.pipeline import check
    from ftdsl.recipe.search import is_searched
    from ftdsl.session import Session
    from ftdsl.targets.lock import path_of

    session, began = Session(engine_python=args.engine_python), time.monotonic()
    checked = check(path, options, session)
    lock = path_of(path)
    if (
        session.sink.failed
        or checked.plan is None
        or not checked.jobs
        or is_searched(checked.plan.recipe)
        or not lock.exists()
    ):
        return None
    from ftdsl.run.all_done import outcome_of

    home = home_of(path, checked.plan.recipe.name, options)
    outcome = outcome_of(checked.plan, checked.jobs, lock, home, view_of(plain=True), session)
    if outcome is not None:
        show(session.sink, without=CHOSEN)
        outcome.file, outcome.began, outcome.diagnostics = file, began, list(session.sink.ordered())
        outcome.ended(outcome.status)
    return outcome


CHOSEN = "FT700"
"""What a recipe leaves open, which `ftc check` and `ftc plan` list: here they would come before every run."""


def _count_choices(sink: Sink, recipe: str) -> None:
    """One line instead of them. recipe: as it is typed, with the options of its variant."""
    count = sum(len(diagnostic.notes) for diagnostic in sink if diagnostic.code == CHOSEN)
    if count and not sink.failed:
        are = "values are" if count > 1 else "value is"
        print(f"{count} {are} chosen for you; ftc plan {recipe} shows them", file=sys.stderr)


def _searched(path: Path, options: Options, compiled: Compiled | None, args: argparse.Namespace) -> TrialSource | None:
    """What a study makes trials of; None where nothing is searched. A recipe that cannot be run at one point of its space may be
    at another.
    """
    from ftdsl.recipe.search import is_searched

    if args.smoke or (compiled is not None and not is_searched(compiled.plan.recipe)):
        return None
    if compiled is None:
        from ftdsl.language.resolve.resolve import resolve
        from ftdsl.session import Session

        resolved = resolve(path, path.as_posix(), options, Session())
        if resolved is None or resolved.search is None or not any(stage.dimensions for stage in resolved.stages):
            return None
    from ftdsl.search.trial import TrialSource

    return TrialSource(path, options, args.engine_python, args.frozen, args.target)


def _carry_out(
    compiled: Compiled, path: Path, args: argparse.Namespace, session: Session, source: TrialSource | None = None
) -> Outcome:
    from ftdsl.run.carry_out import carry_out, environments_of
    from ftdsl.run.prepare import UnknownStageError, Wishes, selected
    from ftdsl.run.project import home_of, study_folder
    from ftdsl.run.stop import Stop
    from ftdsl.search.storage import need_optuna

    wishes = Wishes(tuple(args.only), tuple(args.force), args.fresh, args.jobs, args.verify, not args.no_preload)
    jobs = selected(compiled.jobs, wishes)
    environments = environments_of(jobs, compiled, session.env, python=args.engine_python)
    home = home_of(path, compiled.name, options_of(args), smoke=args.smoke, claim=True)

    def work(view: View, stop: Stop) -> Outcome:
        for name in dict.fromkeys(job.environment for job in jobs if job.environment):
            view.note(f"engine: {environments[name].describe(name)}, found by {environments[name].source}")
        if source is not None:
            from ftdsl.search.run import search

            return search(
                source, compiled, environments, view, stop=stop, home=home, fresh=args.fresh, side_by_side=args.jobs,
                preload=not args.no_preload,
            )  # fmt: skip
        return carry_out(compiled, wishes, environments, view, session=session, stop=stop, home=home)

    if source is not None:
        if args.only or args.force:
            raise UnknownStageError("a search is carried out whole: --only and --force name stages of one run")
        need_optuna()
        shown: AbstractContextManager[View] = study_view(study_folder(home, fresh=args.fresh), plain=args.plain)
    else:
        shown = nullcontext(view_of(plain=args.plain))
    if args.smoke or args.foreground or not hasattr(os, "fork"):
        stop = Stop()
        with _signals(lambda _: stop.stop(), leave=False), shown as view:
            return work(view, stop)
    return _supervised(work, home, args, shown)


def _supervised(
    work: Callable[[View, Stop], Outcome], home: Path, args: argparse.Namespace, shown: AbstractContextManager[View]
) -> Outcome:
    """A supervisor carries it out; this process only watches, and may go away."""
    from ftdsl.run.outcome import Outcome
    from ftdsl.run.supervise import begun, follow, start

    run = start(work, home / "supervisor.log")
    if args.detach:
        folder = begun(run, lambda text: print(text, file=sys.stderr))
        file = retyped(args.files[0], args)
        if folder is not None:
            print(f"{folder.as_posix()}: process {run.pid}\nnext: ftc watch {file}, ftc cancel {file}", file=sys.stderr)
        return Outcome()  # it runs on without this process
    with _signals(lambda number: os.kill(run.pid, number), leave=True), shown as view:
        return follow(run, view)


def study_view(folder: Path, *, plain: bool) -> AbstractContextManager[View]:
    """What shows a study here: a table in a terminal, else lines."""
    if sys.stderr.isatty() and not plain and os.environ.get("TERM") != "dumb":
        from ftdsl.observe.study_live import StudyView

        return StudyView(folder)
    from ftdsl.observe.plain import PlainStudy

    return nullcontext(PlainStudy(sys.stderr))


def view_of(*, plain: bool) -> View:
    """What shows a run here: a live view in a terminal, else lines; with what judges find while it goes on."""
    from ftdsl.diagnose.live import JudgingView

    if sys.stderr.isatty() and not plain and os.environ.get("TERM") != "dumb":
        from ftdsl.observe.live import LiveView

        return JudgingView(LiveView())
    from ftdsl.observe.plain import Plain

    return JudgingView(Plain(sys.stderr))
