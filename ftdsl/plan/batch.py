"""The batch equation: global = micro x accumulate x data-parallel. Any two of the three decide the third."""

from __future__ import annotations

from typing import Any, Protocol

from ftdsl.plan.plan import Batch
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Stage
from ftdsl.session import Session


class Chooses(Protocol):
    """What the equation needs of the chooser."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any, reason: str, *, told: bool = True) -> None: ...


def solve(stage: Stage, chooser: Chooses, world: World, session: Session) -> Batch:
    """Micro-batch and accumulation as the recipe wants them; what cannot be had is an error with the arithmetic."""
    parallel = world.data or 1
    wanted = _wanted(stage, chooser)
    micro, accumulate = _number(chooser.get("batch.micro")), _given(stage, "accumulate")
    if micro is None:
        micro = _micro(wanted, accumulate, parallel)
        reason = "from the batch equation" if micro > 1 else "nothing asks for more"
        chooser.set("batch.micro", micro, reason)
    if accumulate is None:
        accumulate = max(1, round(wanted / (micro * parallel))) if wanted else 1
        reason = "from the batch equation" if wanted else "nothing asks for more"
        chooser.set("batch.accumulate", accumulate, reason, told=accumulate > 1)
    batch = Batch(micro, accumulate, parallel)
    # `tokens` asks for about so many; only a number of sequences must come out exactly.
    if _given(stage, "global") is not None and batch.total != wanted:
        _refuse(stage, batch, _given(stage, "global") or 0, world, session)
    return batch


def _given(stage: Stage, name: str) -> int | None:
    return _number(stage.settings.get(f"batch.{name}"))


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _wanted(stage: Stage, chooser: Chooses) -> int | None:
    """Sequences per optimizer step, if the recipe says."""
    tokens = stage.settings.get("batch.tokens")
    exact = _number(chooser.get("batch.global"))
    if exact is None and isinstance(tokens, int | float):
        return max(1, round(tokens / int(chooser.get("max_len"))))
    return exact


def _micro(wanted: int | None, accumulate: int | None, parallel: int) -> int:
    """1, or what the other two leave."""
    if wanted and accumulate and wanted % (accumulate * parallel) == 0:
        return wanted // (accumulate * parallel)
    return 1


def _refuse(stage: Stage, batch: Batch, wanted: int, world: World, session: Session) -> None:
    span = stage.spans.get("batch.global") or stage.spans.get("batch", stage.span)
    ways = batch.micro * batch.data_parallel
    near = [n for n in (wanted // ways * ways, (wanted // ways + 1) * ways) if n]
    label = f"{batch.micro} micro x {batch.accumulate} accumulate x {batch.data_parallel} data-parallel = {batch.total}"
    label += f"; {world}" if world.split > 1 else ""
    help = f"write `global = {' or '.join(map(str, near))}`, or change `micro`"
    session.sink.error("FT401", f"a batch of {wanted} cannot be made up", span, label=label, help=help)
