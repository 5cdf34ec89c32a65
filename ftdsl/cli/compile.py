"""`ftc compile FILE`: writes the artifacts that run the recipe, and lists them. Executes nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from ftdsl.cli.common import add_no_data, add_recipe_arguments, keep_lock, options_of, recipe_path, retyped, show

if TYPE_CHECKING:
    from ftdsl.targets.compiled import Compiled


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("compile", help="write the artifacts that run a recipe", description=__doc__)
    parser.add_argument("file", metavar="FILE")
    add_recipe_arguments(parser)
    add_no_data(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="where to (default: build/<name>)")
    parser.add_argument(
        "--target", default="", metavar="T", help="what starts it (default: as the recipe says, else bash)"
    )
    parser.add_argument("--frozen", action="store_true", help="fail if anything differs from the recipe's lock")
    parser.add_argument("--json", action="store_true", help="what was written, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when written, 1 with errors, 2 when there is nothing to compile."""
    from ftdsl.pipeline import compile_recipe
    from ftdsl.run.project import build_of, from_here, root_of
    from ftdsl.session import Session
    from ftdsl.targets.write import write

    session = Session(elsewhere=args.no_data)
    path = recipe_path(args.file)
    compiled = compile_recipe(path, options_of(args), session, frozen=args.frozen, target=args.target)
    if compiled is None:
        show(session.sink)
        if session.sink.failed:
            return 1
        print(f"{args.file}: nothing to compile: no stages in it", file=sys.stderr)
        return 2
    folder = args.out or build_of(path, compiled.name)
    root = args.out or from_here(root_of(path))  # a folder that is named is its user's word, links in it and all
    if not args.frozen:
        keep_lock(compiled)
    written = write(folder, compiled.files, compiled.folder, session, root)
    show(session.sink)
    if not written:
        return 1
    _report(folder, compiled, args)
    return 0


def _report(folder: Path, compiled: Compiled, args: argparse.Namespace) -> None:
    from ftdsl.run.launchers import registry as launchers
    from ftdsl.targets import registry

    files = compiled.files
    if args.json:
        import json

        print(json.dumps({"folder": folder.as_posix(), "files": sorted(files)}, indent=2))
        return
    for name in sorted(files):
        print(f"{folder.as_posix()}/{name}")
    target = registry.get(compiled.target)
    assert target is not None, "it was compiled for"
    chosen = f" --target {args.target}" if args.target else ""
    run = f", or ftc run{chosen} {retyped(args.file, args)}" if compiled.target in launchers.names() else ""
    print(f"next: {join(target.next_step(folder.as_posix()))}{run}", file=sys.stderr)
