"""`ftc diff A B`: two recipes, two YAML files, or one of each, compared by meaning. `FILE@PROFILE`: under a profile."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ftdsl.cli.common import print_json, read_exactly, recipe_path, show

if TYPE_CHECKING:
    from ftdsl.importers.compare import Change, Comparison, Side


WIDE = 50
"""Longer values move only their own origin to the right, not the column of origins."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("diff", help="compare two recipes or files by meaning", description=__doc__)
    parser.add_argument(
        "before", metavar="A", help="a recipe, LLaMA-Factory file or script; recipe.ft@laptop: with a profile"
    )
    parser.add_argument("after", metavar="B", help="the same; @laptop alone: A's file with that profile")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 if they are equivalent, 1 if they differ, 2 if one cannot be read (like diff)."""
    from ftdsl.importers.compare import compare

    try:
        sides = _side(args.before, ""), _side(args.after, args.before.partition("@")[0])
    except OSError as error:
        from ftdsl.storage import sentence

        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    if sides[0] is None or sides[1] is None:
        return 2
    comparison = compare(sides[0], sides[1])
    if args.json:
        _json(comparison)
    else:
        print("\n".join(_lines(comparison, args)))
    return 0 if comparison.equal else 1


def _side(argument: str, default: str) -> Side | None:
    from ftdsl.importers.compare import read
    from ftdsl.language.resolve.resolve import Options
    from ftdsl.session import Session

    name, _, profiles = argument.partition("@")
    path = recipe_path(name or default)
    text = read_exactly(path)
    if text is None:
        return None
    session = Session()
    side = read(path, text, Options(tuple(filter(None, profiles.split(",")))), "compared", session)
    if side is None:
        show(session.sink)
    return side


def _json(comparison: Comparison) -> None:
    changes = [
        {"stage": c.stage, "group": c.group or "other", "key": c.key, "before": c.before, "after": c.after,
         "where_before": c.where_before, "where_after": c.where_after}
        for c in comparison.changes
    ]  # fmt: skip
    data = {
        "equal": comparison.equal,
        "changes": changes,
        "only_before": comparison.only_before,
        "only_after": comparison.only_after,
        "run_again": comparison.again,
    }
    print_json(data)


def _lines(comparison: Comparison, args: argparse.Namespace) -> list[str]:
    if comparison.equal:
        return ["they are equivalent"]
    lines: list[str] = []
    for stage in dict.fromkeys(change.stage for change in comparison.changes):
        changes = [change for change in comparison.changes if change.stage == stage]
        lines += [*([""] if lines else []), stage, *_table(changes)]
    lines += [""] if lines else []
    lines += [f"only in {args.before}: {', '.join(comparison.only_before)}"] if comparison.only_before else []
    lines += [f"only in {args.after}: {', '.join(comparison.only_after)}"] if comparison.only_after else []
    lines.append(f"would run again: {', '.join(comparison.again)}" if comparison.again else "results can be reused")
    return lines


def _table(changes: list[Change]) -> list[str]:
    """Name, both values, and the location of each; the line of a group's first key has the group's name."""
    table_rows = [
        (change.group if _leads(change) else change.key, _value(change), _origin(change)) for change in changes
    ]
    first = max(len(name) for name, _, _ in table_rows)
    second = max((len(value) for _, value, _ in table_rows if len(value) <= WIDE), default=0)
    return [f"  {name:{first}}  {value:{second}}  {origin}".rstrip() for name, value, origin in table_rows]


def _leads(change: Change) -> bool:
    return change.key in ("batch", "optim.lr", "method", "data", "model")


def _value(change: Change) -> str:
    return f"{change.before or '-'} -> {change.after or '-'}"


def _origin(change: Change) -> str:
    return f"{change.where_before or '-'} -> {change.where_after or '-'}"
