"""`ftc fmt FILE…`: one style, no options; changes only white space, and refuses a file with syntax errors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ftdsl.cli.common import print_diff, print_exactly, read_exactly, read_stdin, recipes_in, rewrite, show
from ftdsl.printable import one_line


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("fmt", help="format a recipe", description=__doc__)
    help = "a folder: the recipes below it (default: here); `-` reads stdin and writes stdout"
    parser.add_argument("files", nargs="*", metavar="FILE", default=["."], help=help)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something would change")
    parser.add_argument("--diff", action="store_true", help="show what would change")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 when a file cannot be read, or with --check when one would change."""
    return max(_format_file(name, args) for name in recipes_in(args.files))


def _format_file(name: str, args: argparse.Namespace) -> int:
    from ftdsl.diagnostics import Sink
    from ftdsl.language.endings import kind_of_other
    from ftdsl.language.format import FormatError, format_text
    from ftdsl.language.parser import parse
    from ftdsl.language.resolve.load import report_other
    from ftdsl.session import Session
    from ftdsl.source import Source

    if name != "-" and (kind := kind_of_other(Path(name))):
        report_other(name, kind, session := Session())
        show(session.sink)
        return 1
    before = read_stdin() if name == "-" else read_exactly(Path(name))
    if before is None:
        return 1
    try:
        after = format_text(Source(name, before))
    except FormatError as error:
        print(f"error: {one_line(name)}: ftc has a bug here: {error}; not changed", file=sys.stderr)
        print("  = help: please report it with the recipe", file=sys.stderr)
        return 1
    if after is None:
        sink = Sink()
        parse(Source(name, before), sink)
        show(sink)
        print(f"{one_line(name)}: not changed", file=sys.stderr)
        return 1
    if args.diff and after != before:
        print_diff(name, before, after, "formatted")
    if args.check or args.diff:
        if after != before and not args.diff:
            print(f"{one_line(name)}: would change")
        return int(after != before and args.check)
    if name == "-":
        print_exactly(after)
    elif after != before:
        if not rewrite(Path(name), before, after):
            return 1
        print(f"{one_line(name)}: changed", file=sys.stderr)
    return 0
