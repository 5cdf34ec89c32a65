"""`ftc accept FILE STAGE… --reason TEXT`: accepts the result of a stage as current. For changes that you know not to
matter: a package of the engine's was upgraded, a remark in a script was mended.
"""

from __future__ import annotations

import argparse
import sys

from ftdsl.cli.common import add_recipe_arguments, options_of, recipe_path, retyped, show


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("accept", help="accept the result of a finished stage", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="a recipe")
    parser.add_argument("stages", metavar="STAGE", nargs="+", help="stages, each with those that depend on it")
    add_recipe_arguments(parser)
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; kept with the run")
    parser.add_argument("--engine-python", default="", metavar="P", help="the engine's Python, as for ftc run")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 if all stages are accepted; 1 if one has no result, or a damaged one."""
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.accept import NotDoneError, accept
    from ftdsl.run.environments import NoEngineError
    from ftdsl.run.prepare import UnknownStageError
    from ftdsl.run.project import home_of
    from ftdsl.run.store import BusyError
    from ftdsl.session import Session

    session = Session(engine_python=args.engine_python)
    path, options = recipe_path(args.file), options_of(args)
    compiled = compile_recipe(path, options, session)
    if compiled is None:
        show(session.sink)
        return 1
    home = home_of(path, compiled.name, options)
    try:
        accepted = accept(compiled, tuple(args.stages), args.reason, home, session)
    except (NoEngineError, UnknownStageError, BusyError, NotDoneError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for key, run_id in accepted.items():
        print(f"{key}: the result of {run_id} is accepted")
    print(f"next: ftc plan {retyped(args.file, args)}", file=sys.stderr)
    return 0
