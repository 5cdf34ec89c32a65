"""`ftc completion SHELL`: prints a completion script, to source from the shell's start-up file."""

from __future__ import annotations

import argparse
import sys


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("completion", help="print a completion script", description=__doc__)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh", "fish"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 with the script on stdout; 2 where the installed shtab knows no such shell."""
    import shtab

    from ftdsl.cli.main import parser

    if args.shell not in shtab.SUPPORTED_SHELLS:
        print(f"error: shtab {shtab.__version__} has no {args.shell}; type: pip install -U shtab", file=sys.stderr)
        return 2
    print(shtab.complete(parser(), args.shell))
    to = "> ~/.config/fish/completions/ftc.fish" if args.shell == "fish" else ">> your shell's start-up file"
    print(f"# next: ftc completion {args.shell} {to}", file=sys.stderr)
    return 0
