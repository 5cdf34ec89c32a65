"""`ftc plan FILE`: what would run: layout, batch equation, memory of a card, time, disk, money; ways out when it does not fit."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ftdsl.cli.common import (
    add_no_data,
    add_recipe_arguments,
    color,
    options_of,
    print_diff,
    read_exactly,
    recipe_path,
    rewrite,
    show,
)  # fmt: skip

if TYPE_CHECKING:
    from ftdsl.plan.forecast import Forecast
    from ftdsl.plan.plan import Plan


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("plan", help="say what would run, and what it takes", description=__doc__)
    parser.add_argument("file", metavar="FILE")
    add_recipe_arguments(parser)
    add_no_data(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--apply", type=int, metavar="N", help="write way out N into the recipe")
    parser.add_argument("--stage", metavar="S", help="with --apply: of this stage (else the first that does not fit)")
    parser.add_argument("--diff", action="store_true", help="with --apply: show the change, and change nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when all that can be estimated fits; 1 when something does not, or the recipe has errors; 2 for wrong usage."""
    from ftdsl.diagnostics import Severity
    from ftdsl.pipeline import check
    from ftdsl.plan.forecast import forecasts
    from ftdsl.session import Session

    session = Session(elsewhere=args.no_data)
    path = recipe_path(args.file)
    checked = check(path, options_of(args), session)
    if checked.plan is None or any(d.severity is Severity.ERROR and d.code != "FT701" for d in session.sink):
        show(session.sink)
        return 1
    found = forecasts(checked.plan, session.files)
    if args.apply is not None:
        return _apply(args, path, checked.plan, found)
    if args.json:
        print(json.dumps({"name": checked.plan.recipe.name, "stages": _document(checked.plan, found)}, indent=1))
    else:
        from ftdsl.observe.forecast import lines

        print("\n".join(lines(checked.plan, found, color=color(sys.stdout))))
    tight = [one for one in found.values() if one.cost is not None and not one.cost.fits]
    if not args.json:
        print(f"next: ftc plan {quote(args.file)} --apply 1" if tight and tight[0].ways else
              f"next: ftc run {quote(args.file)}", file=sys.stderr)  # fmt: skip
    return 1 if tight else 0


def _document(plan: Plan, found: dict[str, Forecast]) -> list[dict[str, Any]]:
    """The plan as data: bytes, seconds, USD."""
    return [
        {
            "stage": one.key,
            "kind": one.stage.kind,
            "where": plan.recipe.where(one.stage.span),
            "processes": one.world.size,
            "card": one.world.gpu or None,
            "batch": str(one.batch) if one.batch else None,
            "choices": [{"key": c.key, "value": c.value, "reason": c.reason} for c in one.choices],
            "forecast": _forecast(found[one.key]) if one.key in found else None,
        }
        for one in plan.stages
    ]


def _forecast(one: Forecast) -> dict[str, Any]:
    if one.cost is None:
        return {"unknown": one.unknown, "steps": one.steps or None}
    cost, peak = one.cost, one.cost.memory.peak
    return {
        "fits": cost.fits,
        "needed_bytes": round(cost.need),
        "limit_bytes": round(cost.limit),
        "peak": {"phase": peak.name, "allocated_bytes": round(peak.total), "terms": _rounded(peak.terms)},
        "phases": {phase.name: round(phase.total) for phase in cost.memory.phases},
        "reserved_bytes": round(cost.memory.reserved),
        "nvidia_smi_bytes": round(cost.memory.nvidia_smi),
        "step_seconds": round(cost.seconds, 4),
        "tokens_per_second_and_card": round(cost.tokens, 1),
        "steps": one.steps or None,
        "seconds": round(one.seconds, 1) or None,
        "disk_bytes": round(one.disk),
        "usd": round(one.money, 2) or None,
        "ways_out": [{"edits": dict(way.edits), "gives_up": way.gives_up, "needed_bytes": round(way.cost.need),
                      "step_seconds": round(way.cost.seconds, 4)} for way in one.ways],
    }  # fmt: skip


def _rounded(terms: dict[str, float]) -> dict[str, int]:
    return {name: round(size) for name, size in terms.items() if size >= 1}


def _apply(args: argparse.Namespace, path: Path, plan: Plan, found: dict[str, Forecast]) -> int:
    """Write a way out into the recipe: beside, then renamed."""
    tight = [
        one for one in found.values() if one.ways and args.stage in (None, one.key, plan.stage(one.key).stage.name)
    ]
    if not tight:
        print("error: nothing here needs a way out", file=sys.stderr)
        return 2
    ways = tight[0].ways
    if not 1 <= args.apply <= len(ways):
        print(f"error: there are {len(ways)} ways out of `{tight[0].key}`", file=sys.stderr)
        return 2
    before = read_exactly(path)
    if before is None:
        return 1
    after = _edited(path, before, plan.stage(tight[0].key).stage.name, ways[args.apply - 1].edits)
    if after is None:
        return 1
    if args.diff:
        print_diff(args.file, before, after, f"way out {args.apply}")
        return 0
    rewrite(path, after)
    print(f"{args.file}: {ways[args.apply - 1]}", file=sys.stderr)
    return 0


def _edited(path: Path, text: str, stage: str, edits: tuple[tuple[str, str], ...]) -> str | None:
    """The recipe's text with each key set in the stage's own block, edit by edit since each moves the rest."""
    from ftdsl.diagnostics import Sink
    from ftdsl.language import tree
    from ftdsl.language.edit import setting
    from ftdsl.language.parser import parse
    from ftdsl.source import Source

    for key, value in edits:
        file = parse(Source(path.as_posix(), text), Sink())
        block = next((b for b in file.items if isinstance(b, tree.Block)
                      and (b.label or b.kind).text == stage), None)  # fmt: skip
        if block is None:
            print(f"error: `{stage}` does not stand in {path} itself, but in a file it includes", file=sys.stderr)
            return None
        for edit in setting(block, key.split("."), value):
            text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text
