"""`ftc doctor [--target T]`: what a target needs, and whether it is here; one line a check."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("doctor", help="report what a target needs and lacks", description=__doc__)
    parser.add_argument("--target", default="bash", metavar="T", help="slurm, kubernetes, … (default: this machine)")
    parser.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="where runs will lie (default: here)"
    )
    parser.add_argument("--engine-python", default="", metavar="P", help="the Python that the nodes would use")
    parser.add_argument("--on-a-node", action="store_true", help="also start a short job that looks from a node")
    parser.add_argument("--partition", default="", metavar="P", help="of that job")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 if nothing that is needed is missing, 1 otherwise, 2 for an unknown target."""
    from ftdsl.cli.engine import run_doctor, show_checks
    from ftdsl.run.target_doctor import examine
    from ftdsl.targets import registry

    if registry.get(args.target) is None:
        print(f"error: unknown target `{args.target}`; targets: {', '.join(registry.names())}", file=sys.stderr)
        return 2
    if args.target == registry.DEFAULT:
        args.name = ""
        return run_doctor(args)
    checks = examine(
        args.target,
        dict(os.environ),
        args.folder,
        args.engine_python,
        on_a_node=args.on_a_node,
        partition=args.partition,
    )
    return show_checks(checks, as_json=args.json)
