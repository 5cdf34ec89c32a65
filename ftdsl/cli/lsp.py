"""`ftc lsp`: the language server for recipes and LLaMA-Factory YAML, on stdin and stdout. Needs `pip install 'ftdsl[lsp]'`."""

from __future__ import annotations

import argparse
import os
import sys


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("lsp", help="the language server for editors", description=__doc__)
    parser.add_argument("--stdio", action="store_true", help="serve on stdin and stdout (the default; editors pass it)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when the client ends the session; 1 without pygls."""
    try:
        import pygls  # noqa: F401
    except ImportError:
        print("error: the language server needs pygls", file=sys.stderr)
        print("  = help: pip install 'ftdsl[lsp]'", file=sys.stderr)
        return 1
    from contextlib import redirect_stdout

    from ftdsl.lsp.server import serve

    messages = os.fdopen(os.dup(sys.stdout.fileno()), "wb")  # the server closes it
    with redirect_stdout(sys.stderr):  # nothing else may get between the messages
        serve(sys.stdin.buffer, messages)
    return 0
