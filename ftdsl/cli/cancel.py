"""`ftc cancel FILE`: stops a recipe's run, from any terminal. Stages may save first; with --now they are killed."""

from __future__ import annotations

import argparse
import sys

from ftdsl.cli.common import add_recipe_arguments, retyped
from ftdsl.cli.status import seen_of


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("cancel", help="stop a run", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="a recipe")
    add_recipe_arguments(parser)
    parser.add_argument("--now", action="store_true", help="kill its stages at once")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 if all processes of the run have ended; 1 if there is no run, or a process is left."""
    from ftdsl.run.control import cancel

    seen = seen_of(args)
    if seen is None:
        return 1
    if not seen.running:
        print(f"{seen.progress.folder.as_posix()} is not running", file=sys.stderr)
        return 0
    if not cancel(seen, now=args.now):
        print(
            f"error: {args.file} has not ended yet; kill it with: ftc cancel --now {retyped(args.file, args)}",
            file=sys.stderr,
        )
        return 1
    print(f"stopped; finished stages are kept. next: ftc run {retyped(args.file, args)}", file=sys.stderr)
    return 0
