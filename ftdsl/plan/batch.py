"""The batch equation: global = micro x accumulate x data-parallel. Any two of the three decide the third; a ramp sets both by
phase.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from ftdsl.language.values import Amount, Term
from ftdsl.plan.plan import Batch
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Stage
from ftdsl.runtime.ramp import Phase
from ftdsl.session import Session


class Chooses(Protocol):
    """The part of the chooser that the equation needs."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any, reason: str, *, reported: bool = True) -> None: ...


def solve(stage: Stage, chooser: Chooses, world: World, session: Session) -> Batch:
    """Micro-batch and accumulation as the recipe sets them; an impossible combination is an error with the arithmetic."""
    parallel = world.data or 1
    wanted = _wanted(stage, chooser)
    micro, accumulate = _number(chooser.get("batch.micro")), _given(stage, "accumulate")
    if micro is None:
        micro = _micro(wanted, accumulate, parallel)
        reason = "from the batch equation" if micro > 1 else "the recipe sets no larger batch"
        chooser.set("batch.micro", micro, reason)
    if accumulate is None:
        accumulate = max(1, round(wanted / (micro * parallel))) if wanted else 1
        reason = "from the batch equation" if wanted else "the recipe sets no larger batch"
        chooser.set("batch.accumulate", accumulate, reason, reported=accumulate > 1)
    batch = Batch(micro, accumulate, parallel)
    # `tokens` is approximate; only a number of sequences must be met exactly.
    if _given(stage, "global") is not None and batch.total != wanted:
        _refuse(stage, batch, _given(stage, "global") or 0, world, session)
    elif group := group_of(stage):
        _check_groups(stage, batch, group, session)
    return batch


def group_of(stage: Stage) -> int:
    """Answers to one prompt that are compared with each other, so that a step holds whole groups of them; 0 without groups."""
    return _number(stage.settings.get("generations")) or 0 if stage.kind == "grpo" else 0


def whole_groups(stage: Stage, chooser: Chooses, world: World, least: int) -> None:
    """Without a batch size of the recipe: the smallest one of at least so many sequences that holds whole groups."""
    sizes = ("micro", "accumulate", "global", "tokens")
    if (group := group_of(stage)) and all(chooser.get(f"batch.{size}") is None for size in sizes):
        unit = math.lcm(group, world.data or 1)
        chooser.set("batch.global", -(-least // unit) * unit, "whole groups of `generations` answers")


def _check_groups(stage: Stage, batch: Batch, group: int, session: Session) -> None:
    """TRL refuses it when training starts (trl/trainer/grpo_config.py)."""
    if batch.total % group == 0:
        return
    span = stage.spans.get("batch.global") or stage.spans.get("batch") or stage.spans.get("generations", stage.span)
    text = f"a step of {batch.total} answers does not hold whole groups of `generations = {group}`"
    label = f"{batch.micro} micro x {batch.accumulate} accumulate x {batch.data_parallel} data-parallel = {batch.total}"
    session.sink.error("FT401", text, span, label=label, help=_whole_groups_help(stage, batch, group))


def _whole_groups_help(stage: Stage, batch: Batch, group: int) -> str:
    """The nearest sizes that hold whole groups, with what else the recipe sets."""
    if _given(stage, "micro") and _given(stage, "accumulate"):
        unit = group // math.gcd(group, batch.micro * batch.data_parallel)
        return f"write `accumulate = {_nearest(batch.accumulate, unit)}`"
    instead = " instead of `tokens`" if stage.settings.get("batch.tokens") else ""
    return f"write `global = {_nearest(batch.total, math.lcm(group, _step(stage, batch)))}`{instead}"


def _step(stage: Stage, batch: Batch) -> int:
    """What the size of a step is a multiple of: the parts of it that the recipe sets."""
    return (_given(stage, "micro") or 1) * (_given(stage, "accumulate") or 1) * batch.data_parallel


def _nearest(number: int, unit: int) -> str:
    """The multiples of a unit around a number: `56 or 64`."""
    below = number // unit * unit
    return " or ".join(str(multiple) for multiple in (below, below + unit) if multiple)


def ramp_of(stage: Stage, chooser: Chooses, session: Session) -> tuple[Phase, ...]:
    """The phases of `batch.ramp`, in order; none without one, and none, with an error, for phases that cannot be carried out.

    What the engine is given is the largest micro-batch: memory is planned for it, and each step is cut by our runtime.
    """
    written = stage.settings.items("batch.ramp")
    if not written:
        return ()
    phases = tuple(map(_phase, written))
    if why := _no_ramp(stage, written, phases):
        session.sink.error("FT401", why[0], stage.spans.get("batch.ramp", stage.span), help=why[1])
        return ()
    largest = max(phase.micro for phase in phases)
    chooser.set("batch.micro", largest, "that of the largest phase of `ramp`", reported=False)
    chooser.set("batch.accumulate", 1, "each step is cut into micro-batches by phase", reported=False)
    return phases


def _phase(item: Any) -> Phase:
    options = item.options if isinstance(item, Term) else {}
    until = options.get("until")
    return Phase(
        int(options.get("micro") or 1),
        int(options.get("accumulate") or 1),
        int(until.number) if isinstance(until, Amount) else 0,
    )


def _no_ramp(stage: Stage, written: list[Any], phases: tuple[Phase, ...]) -> tuple[str, str] | None:
    """Why phases cannot be carried out, and what to write; None where they can."""
    example = "write `[phase(until = 1000 steps, micro = 2, accumulate = 8), phase(micro = 8, accumulate = 2)]`"
    if any(not isinstance(item, Term) or item.name != "phase" for item in written):
        return "`ramp` takes phases such as `phase(until = 1000 steps, micro = 2)`", example
    for name in ("global", "tokens", "micro", "accumulate"):
        origin = stage.origins.get(f"batch.{name}")
        if (
            origin is not None
            and origin.kind not in ("auto", "default")
            and stage.settings.get(f"batch.{name}") is not None
        ):
            return f"`ramp` and `{name}` both set the batch size", f"drop `{name}`"
    ends = [phase.until for phase in phases]
    if ends[-1]:
        return "the last phase lasts to the end of the training", "drop its `until`"
    if not all(ends[:-1]):
        return "every phase but the last needs `until`", example
    if any(end <= before for before, end in zip([0, *ends], ends[:-1], strict=False)):
        return (
            "`until` of a phase is not larger than that of the phase before",
            "write increasing steps: they count from the start of the training",
        )
    return None


def _given(stage: Stage, name: str) -> int | None:
    return _number(stage.settings.get(f"batch.{name}"))


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _wanted(stage: Stage, chooser: Chooses) -> int | None:
    """Sequences per optimizer step, if the recipe sets them."""
    tokens = stage.settings.get("batch.tokens")
    exact = _number(chooser.get("batch.global"))
    if exact is None and isinstance(tokens, int | float):
        return max(1, round(tokens / int(chooser.get("max_len"))))
    return exact


def _micro(wanted: int | None, accumulate: int | None, parallel: int) -> int:
    """1, or the quotient of the other two."""
    if wanted and accumulate and wanted % (accumulate * parallel) == 0:
        return wanted // (accumulate * parallel)
    return 1


def _refuse(stage: Stage, batch: Batch, wanted: int, world: World, session: Session) -> None:
    span = stage.spans.get("batch.global") or stage.spans.get("batch", stage.span)
    label = f"{batch.micro} micro x {batch.accumulate} accumulate x {batch.data_parallel} data-parallel = {batch.total}"
    label += f"; {world}" if world.split > 1 else ""
    given = [name for name in ("micro", "accumulate") if _given(stage, name)]
    step = _step(stage, batch)
    parts = " x ".join([*given, "data-parallel"])
    if len(given) == 2 or wanted % step == 0:
        text = f"`global = {wanted}` is not micro x accumulate x data-parallel = {batch.total}"
        rest = wanted / (batch.micro * batch.data_parallel)
        help = f"write `global = {batch.total}`" + (f", or `accumulate = {rest:g}`" if rest == int(rest) else "")
    else:
        text = f"`global = {wanted}` is not a multiple of {parts} = {step}"
        unit = math.lcm(step, group_of(stage) or 1)
        help = f"write `global = {_nearest(wanted, unit)}`" + "".join(f", or change `{name}`" for name in given)
    session.sink.error("FT401", text, span, label=label, help=help)
