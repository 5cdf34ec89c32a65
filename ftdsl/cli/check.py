"""`ftc check FILE…`: all diagnostics of recipes, without loading an engine."""

from __future__ import annotations

import argparse
import sys
from shlex import quote

from ftdsl.cli.common import add_recipe_arguments, color, options_of, recipe_path


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("check", help="say all that is wrong with a recipe", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    add_recipe_arguments(parser)
    parser.add_argument("--output-format", choices=("text", "json"), default="text")
    parser.add_argument(
        "--json", action="store_const", const="json", dest="output_format", help="same as --output-format json"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="errors and warnings only")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 without errors (warnings and infos are none), 1 with."""
    from ftdsl.diagnostics import Severity
    from ftdsl.pipeline import check
    from ftdsl.session import Session

    found = []
    plans = []
    for name in args.files:
        session = Session()
        plans.append((name, check(recipe_path(name), options_of(args), session)))
        found += session.sink.ordered()
    if args.quiet:
        found = [one for one in found if one.severity is not Severity.INFO]
    if args.output_format == "json":
        from ftdsl.diagnostics.render_json import render as render_json

        print(render_json(found))
    else:
        _text(found, plans, args)
    return 1 if any(one.severity is Severity.ERROR for one in found) else 0


def _text(found: list, plans: list, args: argparse.Namespace) -> None:  # type: ignore[type-arg]
    from ftdsl.diagnostics import Severity
    from ftdsl.diagnostics.render_text import render, summary

    if found:
        print(render(found, color=color(sys.stdout)))
    if said := summary(found):
        print(f"\n{said}")
    if any(one.severity is Severity.ERROR for one in found) or args.quiet:
        return
    for name, checked in plans:
        stages = checked.plan.stages if checked.plan else ()
        said = f"{len(stages)} stage{'s' * (len(stages) != 1)}"
        print(f"{name}: fine, {said}" if stages else f"{name}: fine; nothing to run in it")
        for stage in stages:
            if stage.batch:
                print(f"  {stage.key}: {stage.batch}")
    if len(plans) == 1 and plans[0][1].plan:
        print(f"next: ftc run {quote(args.files[0])}", file=sys.stderr)
