"""`ftc clean [FILE]`: what can be removed from the runs of a project, and how much that frees. Removes nothing without `--yes`.

Results that a recipe has now, that `to` names, that another run links to, or that a recipe reads are never removed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.cli.common import read_exactly, recipes_in

if TYPE_CHECKING:
    from ftdsl.run.clean import Removable

UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("clean", help="remove what no run needs any more", description=__doc__)
    parser.add_argument("file", metavar="FILE", nargs="?", help="a recipe of the project (default: the project here)")
    parser.add_argument("--older-than", type=_age, metavar="AGE", help="only what was written before that: 12h, 7d, 4w")
    parser.add_argument("--yes", action="store_true", help="remove it")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.set_defaults(run=run)


def _age(text: str) -> str:
    """Checked, and kept as typed for the command that is shown."""
    if re.fullmatch(r"\d+[hdw]", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 12h, 7d or 4w")
    return text


def run(args: argparse.Namespace) -> int:
    """Exit 0; 1 if something could not be removed, or the recipe does not exist."""
    from ftdsl.run.clean import removable, remove
    from ftdsl.run.project import from_here, root_of
    from ftdsl.run.store import BusyError

    if args.file and not Path(args.file).exists():
        print(f"error: there is no `{args.file}`", file=sys.stderr)
        return 1
    root = from_here(root_of(Path(args.file or "here.ft")))
    things, notes = removable(root, _texts(root))
    if args.older_than is not None:
        seconds = int(args.older_than[:-1]) * UNITS[args.older_than[-1]]
        things = [thing for thing in things if thing.changed < time.time() - seconds]
    failed: dict[Path, str] = {}
    if args.yes:
        try:
            failed = {thing.path: why for thing, why in remove(things) if why}
        except BusyError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(_document(things, failed, removed=args.yes), indent=2, ensure_ascii=False))
    else:
        _show(things, failed, args)
    return 1 if failed else 0


def _texts(root: Path) -> dict[str, str]:
    """The recipes of a project: a run that one of them names is needed."""
    paths = [name for name in recipes_in([str(root)]) if Path(name).is_file()]
    return {name: text for name in paths if (text := read_exactly(Path(name))) is not None}


def _show(things: list[Removable], failed: dict[Path, str], args: argparse.Namespace) -> None:
    from ftdsl.observe.table import columns
    from ftdsl.observe.text import gib
    from ftdsl.printable import typed

    if not things:
        print("nothing to remove", file=sys.stderr)
        return
    rows = [("size", "written", "what", "why")]
    for thing in things:
        written = time.strftime("%Y-%m-%d", time.localtime(thing.changed))
        rows.append((gib(thing.size), written, thing.path.as_posix(), failed.get(thing.path, thing.why)))
    print("\n".join(columns(rows)))
    size = gib(sum(thing.size for thing in things if thing.path not in failed))
    if args.yes:
        print(f"removed: {len(things) - len(failed)} of {len(things)}, {size}", file=sys.stderr)
    else:
        file = f" {typed(args.file)}" if args.file else ""
        older = f" --older-than {args.older_than}" if args.older_than else ""
        print(f"{size} can be removed; nothing is removed yet. next: ftc clean{file}{older} --yes", file=sys.stderr)


def _document(things: list[Removable], failed: dict[Path, str], *, removed: bool) -> dict[str, object]:
    items = [
        {
            "path": thing.path.as_posix(), "why": thing.why, "bytes": thing.size, "changed": round(thing.changed, 3),
            "removed": removed and thing.path not in failed, "error": failed.get(thing.path),
        }
        for thing in things
    ]  # fmt: skip
    return {"schema": 1, "bytes": sum(thing.size for thing in things), "removable": items}
