"""`ftc run FILE`: compiles a recipe and carries its stages out, with a live view; what is done is not done again."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments, keep_lock, options_of, recipe_path, show

if TYPE_CHECKING:
    from ftdsl.observe.progress import RunProgress, View
    from ftdsl.session import Session
    from ftdsl.targets.compiled import Compiled


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("run", help="carry a recipe out", description=__doc__)
    parser.add_argument("file", metavar="FILE")
    add_recipe_arguments(parser)
    parser.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage and what it needs")
    parser.add_argument("--force", action="append", default=[], metavar="STAGE", help="again, though it is done")
    parser.add_argument("--smoke", action="store_true", help="try all stages here in small: toy models, few rows")
    parser.add_argument("--fresh", action="store_true", help="a new run folder in which nothing is done")
    parser.add_argument("--frozen", action="store_true", help="refuse to differ from the recipe's lock")
    parser.add_argument("--engine-python", default="", metavar="P", help="the engine's Python")
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="stages side by side at most")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live view")
    parser.add_argument("--json", action="store_true", help="the end of the run as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 when the recipe or a stage fails; 3 when a gate refuses; 130 when interrupted."""
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.environments import NoEngineError
    from ftdsl.run.prepare import UnknownStageError
    from ftdsl.run.store import BusyError
    from ftdsl.session import Session

    session = Session()
    path, options = recipe_path(args.file), options_of(args)
    compiled = compile_recipe(path, options, session, frozen=args.frozen, smoke=args.smoke)
    show(session.sink)
    if compiled is None:
        if not session.sink.failed:
            print(f"{args.file}: nothing to run: no stages in it", file=sys.stderr)
            return 2
        return 1
    if not args.frozen and not args.smoke:
        keep_lock(compiled)
    try:
        return _run(compiled, args, session)
    except (NoEngineError, UnknownStageError, BusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(compiled: Compiled, args: argparse.Namespace, session: Session) -> int:
    from ftdsl.observe.progress import Status
    from ftdsl.run import prepare, store
    from ftdsl.run.environments import find, this_python
    from ftdsl.run.execute import Executor
    from ftdsl.run.keys import keys_of, uses_engine
    from ftdsl.run.resources import of_this_machine

    gc.enable()
    engine = compiled.plan.recipe.engine
    view = _view(args)
    wanted = prepare.Wanted(tuple(args.only), tuple(args.force), args.fresh or args.smoke)
    jobs = prepare.selected(compiled.jobs, wanted)
    if any(uses_engine(job) for job in jobs):
        named = _python(engine.options.get("python"), compiled)
        environment = find(engine.name, os.environ, flag=args.engine_python, recipe=named)
        view.note(f"engine: {environment.said(engine.name)}, found by {environment.source}")
    else:
        environment = this_python()
    resources = of_this_machine(os.environ, args.jobs)
    home = Path("runs") / (f"{compiled.name}.smoke" if args.smoke else compiled.name)  # never found by a real run
    for one in compiled.replaced:
        view.note(f"smoke: {one}")
    with store.locked(home):
        keys = keys_of(jobs, compiled.files, compiled.folder, environment, session)
        folder, progress = prepare.prepare(compiled, jobs, keys, wanted, home)
        todo = [stage.job for stage in progress.stages if stage.status is Status.WAITING]
        if obstacles := prepare.obstacles(todo, environment, resources):
            for text in obstacles:
                print(f"error: {text}", file=sys.stderr)
            return 1
        executor = Executor(folder, jobs, keys, environment.python, resources, view, progress)
        if todo:
            executor.execute()
    if args.smoke and not args.json:
        print("smoke: toy models and a few steps; the numbers mean nothing, the paths do")
    return _end(progress, interrupted=bool(executor.asked_to_stop), nothing=not todo, args=args)


def _python(named: object, compiled: Compiled) -> str:
    """The recipe's own `python`, seen from the recipe's folder."""
    return str(compiled.folder / str(named)) if named else ""


def _view(args: argparse.Namespace) -> View:
    if sys.stderr.isatty() and not args.plain and os.environ.get("TERM") != "dumb":
        from ftdsl.observe.live import LiveView

        return LiveView()
    from ftdsl.observe.plain import Plain

    return Plain(sys.stderr)


def _end(progress: RunProgress, *, interrupted: bool, nothing: bool, args: argparse.Namespace) -> int:
    from ftdsl.observe.progress import Status
    from ftdsl.observe.table import summary

    failed, refused = progress.having(Status.FAILED), progress.having(Status.REFUSED)
    status = 130 if interrupted else 1 if failed else 3 if refused else 0
    if args.json:
        _json(progress, status)
        return status
    if nothing:
        print(
            f"nothing to do: all {len(progress.stages)} stages are done in {progress.folder.as_posix()}",
            file=sys.stderr,
        )
    print("\n".join(summary(progress)))
    _why(progress)
    print(_next(progress, status, args), file=sys.stderr)
    return status


def _why(progress: RunProgress) -> None:
    """The last lines of what failed."""
    from ftdsl.observe.progress import Status
    from ftdsl.run.process import last_words

    for stage in progress.having(Status.FAILED):
        log = progress.folder / stage.folder / "log.txt"
        where = f" ({stage.job.where})" if stage.job.where else ""
        print(f"\nerror: {stage.key}{where}: {stage.message}; the end of {log.as_posix()}:", file=sys.stderr)
        for line in last_words(log):
            print(f"  | {line}", file=sys.stderr)


def _next(progress: RunProgress, status: int, args: argparse.Namespace) -> str:
    from ftdsl.observe.progress import Status

    if status == 130:
        return f"stopped; what is done is kept. next: ftc run {quote(args.file)}"
    if status == 1:
        return f"next: mend it, then ftc run {quote(args.file)} goes on where it stopped"
    if status == 3:
        stages = ", ".join(stage.key for stage in progress.having(Status.REFUSED))
        return f"a gate refused: {stages}. next: train on, or change the gate"
    if args.smoke:
        return f"next: ftc run {quote(args.file)}, where its hardware is"
    made = [
        s for s in progress.stages if s.result and s.result.kind in ("model", "adapter") and s.job.kind != "scratch"
    ]
    model = made[-1] if made else None
    return (
        f"next: what it made lies in {(progress.folder / model.result.path).as_posix()}"
        if model and model.result
        else ""
    )


def _json(progress: RunProgress, status: int) -> None:
    import json

    stages = [
        {
            "stage": stage.key,
            "status": stage.status.value,
            "seconds": round(stage.elapsed(stage.ended), 3) if stage.started and stage.ended else None,
            "message": stage.message,
            "kind": stage.result.kind if stage.result else None,
            "path": (progress.folder / stage.result.path).as_posix() if stage.result else None,
            "metrics": dict(stage.result.metrics) if stage.result else {},
        }
        for stage in progress.stages
    ]
    document = {
        "schema": 1,
        "name": progress.name,
        "run": progress.folder.as_posix(),
        "status": status,
        "stages": stages,
    }
    print(json.dumps(document, indent=2))
