"""`ftc upgrade FILE… --to transformers==5.15`: rewrites what changed between versions, with a reason for each change."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import print_diff, read_exactly, recipe_path, rewrite

if TYPE_CHECKING:
    from ftdsl.upgrade.upgrade import Upgraded


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("upgrade", help="rewrite a recipe or YAML for other versions", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recipe, a LLaMA-Factory YAML, or a DeepSpeed JSON")
    parser.add_argument("--to", action="append", required=True, metavar="P==V", help="may be repeated")
    parser.add_argument(
        "--from", action="append", default=[], dest="before", metavar="P==V", help="what it was written for"
    )
    parser.add_argument("--diff", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--json", action="store_true", help="what changed, as ftc check --json says it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 when something is left that only a person can tell, or cannot be read; 2 for a version nobody knows."""
    from ftdsl.upgrade.goal import GoalError, versions_of

    try:
        to, before = versions_of(args.to), versions_of(args.before)
    except GoalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = []
    for name in args.files:
        if (one := _one(recipe_path(name), to, before, args)) is not None:
            results.append(one)
    if args.json:
        from ftdsl.diagnostics.render_json import render

        sys.stdout.write(render([found for one in results for found in one.found]))
    return int(len(results) < len(args.files) or any(not one.readable or one.left for one in results))


def _one(path: Path, to: dict[str, str], before: dict[str, str], args: argparse.Namespace) -> Upgraded | None:
    from ftdsl.diagnostics.render_text import render
    from ftdsl.source import Source
    from ftdsl.upgrade.upgrade import lines, upgrade

    text = read_exactly(path)
    if text is None:
        return None
    found = upgrade(Source(path.as_posix(), text), to, before)
    if not found.readable:
        print(render(found.found), file=sys.stderr)
        return found
    if not args.json:
        for line in lines(found):
            print(line, file=sys.stderr if args.diff else sys.stdout)
    if args.diff:
        print_diff(path.as_posix(), text, found.text, "upgraded")
    elif found.text != text:
        if not rewrite(path, text, found.text):
            return None
        print(f"{path.as_posix()}: upgraded", file=sys.stderr)
    elif not found.found:
        print(f"{path.as_posix()}: nothing to change", file=sys.stderr)
    return found
