"""`ftc diff A B`: two recipes, two YAML files, or one of each, compared by meaning. `FILE@PROFILE`: under a profile."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ftdsl.cli.common import print_json, read_exactly, recipe_path, show

if TYPE_CHECKING:
    from ftdsl.importers.compare import Change, Comparison, Side


WIDE = 50
"""Values longer than this push their own origin to the right, not those of the others."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("diff", help="compare two recipes or files by meaning", description=__doc__)
    parser.add_argument(
        "before", metavar="A", help="a recipe, LLaMA-Factory file or script; recipe.ft@laptop: with a profile"
    )
    parser.add_argument("after", metavar="B", help="the same; @laptop alone: A's file with that profile")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when they mean the same, 1 when they differ, 2 when one cannot be read (as diff does)."""
    from ftdsl.importers.compare import compare

    sides = _side(args.before, ""), _side(args.after, args.before.partition("@")[0])
    if sides[0] is None or sides[1] is None:
        return 2
    found = compare(sides[0], sides[1])
    if args.json:
        _json(found)
    else:
        print("\n".join(_lines(found, args)))
    return 0 if found.equal else 1


def _side(given: str, default: str) -> Side | None:
    from ftdsl.importers.compare import read
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.session import Session

    name, _, profiles = given.partition("@")
    path = recipe_path(name or default)
    text = read_exactly(path)
    if text is None:
        return None
    session = Session()
    side = read(path, text, Options(tuple(filter(None, profiles.split(",")))), "compared", session)
    if side is None:
        show(session.sink)
    return side


def _json(found: Comparison) -> None:
    changes = [
        {"stage": c.stage, "group": c.group or "other", "key": c.key, "before": c.before, "after": c.after,
         "where_before": c.where_before, "where_after": c.where_after}
        for c in found.changes
    ]  # fmt: skip
    data = {"equal": found.equal, "changes": changes, "only_before": found.only_before, "only_after": found.only_after,
            "run_again": found.again}  # fmt: skip
    print_json(data)


def _lines(found: Comparison, args: argparse.Namespace) -> list[str]:
    if found.equal:
        return ["they mean the same"]
    lines: list[str] = []
    for stage in dict.fromkeys(change.stage for change in found.changes):
        changes = [change for change in found.changes if change.stage == stage]
        lines += [*([""] if lines else []), stage, *_table(changes)]
    lines += [""] if lines else []
    lines += [f"only in {args.before}: {', '.join(found.only_before)}"] if found.only_before else []
    lines += [f"only in {args.after}: {', '.join(found.only_after)}"] if found.only_after else []
    lines.append(f"would run again: {', '.join(found.again)}" if found.again else "results of one serve the other")
    return lines


def _table(changes: list[Change]) -> list[str]:
    """Name, both values, and where each comes from; the values of a group's first key carry the group's name."""
    rows = [(change.group if _leads(change) else change.key, _value(change), _origin(change)) for change in changes]
    first = max(len(name) for name, _, _ in rows)
    second = max((len(value) for _, value, _ in rows if len(value) <= WIDE), default=0)
    return [f"  {name:{first}}  {value:{second}}  {origin}".rstrip() for name, value, origin in rows]


def _leads(change: Change) -> bool:
    return change.key in ("batch", "optim.lr", "method", "data", "model")


def _value(change: Change) -> str:
    return f"{change.before or '-'} -> {change.after or '-'}"


def _origin(change: Change) -> str:
    return f"{change.where_before or '-'} -> {change.where_after or '-'}"
