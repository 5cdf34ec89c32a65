"""`ftc mcp`: ftc's verbs as tools for agents (Model Context Protocol), on stdin and stdout. Needs `pip install 'ftdsl[mcp]'`."""

from __future__ import annotations

import argparse
import sys


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("mcp", help="the verbs as tools for agents", description=__doc__)
    parser.add_argument(
        "--allow-run",
        action="store_true",
        help="also offer the tools that start, stop and follow runs, and write builds",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when the client ends the session; 1 without the `mcp` package."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        print("error: the server for agents needs the package mcp", file=sys.stderr)
        print("  = help: pip install 'ftdsl[mcp]'", file=sys.stderr)
        return 1
    from ftdsl.cli.mcp_server import server

    server(allow_run=args.allow_run).run("stdio")
    return 0
