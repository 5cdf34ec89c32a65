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
    parser.add_argument("--json", action="store_true", help="the changes, in the format of ftc check --json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if a file cannot be read, or the user must decide something; 2 for an unknown version."""
    from ftdsl.upgrade.goal import GoalError, versions_of

    try:
        to, before = versions_of(args.to), versions_of(args.before)
    except GoalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = []
    for name in args.files:
        if (result := _upgrade_file(recipe_path(name), to, before, args)) is not None:
            results.append(result)
    if args.json:
        from ftdsl.diagnostics.render_json import render

        sys.stdout.write(render([diagnostic for result in results for diagnostic in result.diagnostics]))
    return int(
        len(results) < len(args.files) or any(not result.readable or result.needs_attention for result in results)
    )


def _upgrade_file(path: Path, to: dict[str, str], before: dict[str, str], args: argparse.Namespace) -> Upgraded | None:
    from ftdsl.diagnostics.render_text import render
    from ftdsl.source import Source
    from ftdsl.upgrade.upgrade import lines, upgrade

    text = read_exactly(path)
    if text is None:
        return None
    upgraded = upgrade(Source(path.as_posix(), text), to, before)
    if not upgraded.readable:
        print(render(upgraded.diagnostics), file=sys.stderr)
        return upgraded
    if not args.json:
        for line in lines(upgraded):
            print(line, file=sys.stderr if args.diff else sys.stdout)
    if args.diff:
        print_diff(path.as_posix(), text, upgraded.text, "upgraded")
    elif upgraded.text != text:
        if not rewrite(path, text, upgraded.text):
            return None
        print(f"{path.as_posix()}: upgraded", file=sys.stderr)
    elif not upgraded.diagnostics:
        print(f"{path.as_posix()}: nothing to change", file=sys.stderr)
    return upgraded
