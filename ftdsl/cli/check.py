"""`ftc check FILE…`: all diagnostics of recipes, without loading an engine."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_recipe_arguments, color, options_of, print_diff, read_exactly, recipe_path, rewrite

if TYPE_CHECKING:
    from ftdsl.pipeline import Checked
    from ftdsl.session import Session


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("check", help="say all that is wrong with a recipe", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    add_recipe_arguments(parser)
    parser.add_argument("--output-format", choices=("text", "json", "github", "sarif"), default="text")
    parser.add_argument("--fix", action="store_true", help="mend what can be mended safely")
    parser.add_argument("--unsafe-fixes", action="store_true", help="with --fix or --diff: guesses too")
    parser.add_argument("--diff", action="store_true", help="show what --fix would change, and change nothing")
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

    if args.fix or args.diff:
        _mend(args)
    found = []
    plans = []
    for name in args.files:
        session = Session()
        checked = check(recipe_path(name), options_of(args), session)
        _rows_cut(checked, session)
        plans.append((name, checked))
        found += session.sink.ordered()
    if args.quiet:
        found = [one for one in found if one.severity is not Severity.INFO]
    if args.output_format == "text":
        _text(found, plans, args)
    else:
        renderer = import_module(f"ftdsl.diagnostics.render_{args.output_format}")
        held = {name: checked.recipe.versions.plain() for name, checked in plans if checked.recipe}
        sys.stdout.write(renderer.render(found, *([held] if args.output_format == "json" else [])))
    return 1 if any(one.severity is Severity.ERROR for one in found) else 0


def _rows_cut(checked: Checked, session: Session) -> None:
    """What an earlier run knows of the lengths of the rows."""
    home = Path("runs") / checked.recipe.name if checked.recipe else Path("runs")
    if checked.plan and home.is_dir():
        from ftdsl.run.lengths import known

        for one in known(checked.plan, checked.jobs, home):
            session.sink.add(one)


ROUNDS = 10
"""A fix may bring the next one to light; they end soon, or this ends them."""


def _mend(args: argparse.Namespace) -> None:
    """Apply fixes to each file, a few rounds, and write beside, then rename; or show the difference."""
    for name in args.files:
        path = recipe_path(name)
        before = read_exactly(path)
        if before is None:
            continue
        after, count = _mended(path, before, args)
        if args.diff:
            print_diff(name, before, after, "fixed")
        elif after != before:
            rewrite(path, after)
            print(f"{name}: {count} fixed", file=sys.stderr)


def _mended(path: Path, text: str, args: argparse.Namespace) -> tuple[str, int]:
    from ftdsl.diagnostics.fixes import apply
    from ftdsl.pipeline import check
    from ftdsl.session import Files, Session
    from ftdsl.source import Source

    count = 0
    for _ in range(ROUNDS):
        session = Session(Files({path: text}))
        check(path, options_of(args), session)
        after, taken = apply(Source(path.as_posix(), text), session.sink.ordered(), unsafe=args.unsafe_fixes)
        if not taken:
            break
        text, count = after, count + len(taken)
    return text, count


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
        if checked.recipe and (told := checked.recipe.versions.told):
            print(f"  checked for {told}")
        for stage in stages:
            if stage.batch:
                print(f"  {stage.key}: {stage.batch}")
    if len(plans) == 1 and plans[0][1].plan:
        print(f"next: ftc run {quote(args.files[0])}", file=sys.stderr)
