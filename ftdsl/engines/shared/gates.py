"""Gates: bounds on a stage's metrics, and the command that checks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.engines.jobs import Command, Document, Gate, Raw
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Amount, Term


def gates_of(context: StageContext) -> Iterator[Gate]:
    """Bounds of a stage's `gate` block. A comparison with anything but an `eval` stage is an error."""
    for metric, bound in context.stage.settings.inside("gate").items():
        if not isinstance(bound, Term):
            continue
        options = bound.options
        if bound.name == "no_worse":
            than = options.get("than")
            other = context.plan.stage(than.key) if than else None
            scored = than is not None and than == context.get("against")
            if not scored and (other is None or other.stage.kind != "eval"):
                name = than.stage if than else "NAME"
                why = f"`no_worse` compares with an `eval` stage, and `{name}` is none"
                help = f"write `against = {name}`, so that it is scored too, or name an `eval` stage"
                context.refuse(f"gate.{metric}", why, help)
                continue
            folder = other.folder if other is not None and not scored else ""
            level = options.get("by")
            if isinstance(level, Amount) and level.unit == "stderrs":
                yield Gate(metric, "no_worse", 0.0, folder, float(level.number))
                continue
            yield Gate(metric, "no_worse", 0.0 if level is None else _level(metric, level), folder)
        else:
            yield Gate(metric, bound.name, _level(metric, options["value"]))


def _level(metric: str, level: Any) -> float:
    """The engine reports rouge and bleu in percent, so a share (`0.3`, `30%`) of them is converted."""
    number = float(getattr(level, "number", level))
    share = getattr(level, "unit", "") == "share"
    return number * 100 if share and metric.startswith(("rouge", "bleu")) else number


def _plain(gate: Gate) -> dict[str, Any]:
    """What runtime/gate.py reads."""
    plain = {"metric": gate.metric, "op": gate.op, "bound": round(gate.bound, 12), "than": gate.than or None}
    if gate.op == "no_worse" and not gate.than:
        plain["against"] = True
    return plain | ({"stderrs": gate.stderrs} if gate.stderrs else {})


def gate_command(
    context: StageContext, documents: list[Document], gates: tuple[Gate, ...], python: Raw = PYTHON
) -> Command:
    """The command that checks the bounds; its document is appended to `documents`."""
    spec = {
        "stage": context.folder,
        "where": context.plan.recipe.location(context.stage.spans.get("gate", context.stage.span)),
        "gates": [_plain(gate) for gate in gates],
    }
    documents.append(Document(f"{context.folder}/gate.json", "json", spec))
    report: tuple[str, ...] = ("--report",) if context.plan.recipe.smoke else ()
    comment = "in a smoke run, reported only" if report else "exit status 3: a bound is not met"
    return Command((python, "runtime/gate.py", f"{context.folder}/gate.json", *report), comment=comment)
