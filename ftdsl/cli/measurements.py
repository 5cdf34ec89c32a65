"""`ftc measurements [--csv FILE]`: what runs of this machine measured, as rows that the planner's benchmarks read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "what runs of this machine measured, as CSV"


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("measurements", help=HELP, description=__doc__)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write there instead of to stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 with rows, 1 where nothing has been measured, or the file cannot be written."""
    from ftdsl.plan.export import as_csv
    from ftdsl.session import Session

    text = as_csv(Session())
    count = text.count("\n") - 1
    if args.csv is None:
        print(text, end="")
    else:
        from ftdsl.storage import write_file

        try:
            write_file(args.csv, text.encode())
        except OSError as problem:
            print(f"{args.csv}: {problem.strerror}", file=sys.stderr)
            return 1
    print(f"{count} run{'s' * (count != 1)} measured on GPUs", file=sys.stderr)
    return 0 if count else 1
