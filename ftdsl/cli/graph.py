"""`ftc graph FILE`: the stages and their dependencies, as Mermaid, DOT or SVG."""

from __future__ import annotations

import argparse

from ftdsl.cli.common import add_recipe_arguments, options_of, recipe_path, show


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("graph", help="draw the stages of a recipe", description=__doc__)
    parser.add_argument("file", metavar="FILE")
    add_recipe_arguments(parser)
    parser.add_argument("--format", choices=("mermaid", "dot", "svg", "json"), default="mermaid")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if the recipe has errors, 2 if it has no stages."""
    from ftdsl.pipeline import check
    from ftdsl.plan import graph
    from ftdsl.session import Session

    session = Session()
    checked = check(recipe_path(args.file), options_of(args), session)
    if session.sink.failed or checked.plan is None:
        show(session.sink)
        return 1 if session.sink.failed else 2
    if args.format == "json":
        import dataclasses
        import json

        print(json.dumps([dataclasses.asdict(node) for node in graph.nodes(checked.plan)], indent=2))
    else:
        print(getattr(graph, args.format)(checked.plan), end="")
    return 0
