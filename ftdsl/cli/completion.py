"""`ftc completion SHELL`: prints a completion script, to source from the shell's start-up file."""

from __future__ import annotations

import argparse
import sys


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("completion", help="print a completion script", description=__doc__)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 with the script on stdout."""
    import shtab

    from ftdsl.cli.main import parser

    print(shtab.complete(parser(), args.shell))
    print(f"# next: ftc completion {args.shell} >> your shell's start-up file", file=sys.stderr)
    return 0
