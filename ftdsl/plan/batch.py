"""The batch equation: global = micro x accumulate x data-parallel. Any two of the three decide the third."""

from __future__ import annotations

from typing import Any, Protocol

from ftdsl.language.values import Term
from ftdsl.plan.plan import Batch, World
from ftdsl.recipe.recipe import Stage
from ftdsl.session import Session


class Chooses(Protocol):
    """What the equation needs of the chooser."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any, reason: str) -> None: ...


def solve(stage: Stage, chooser: Chooses, world: World, session: Session) -> Batch:
    """Micro-batch and accumulation as the recipe wants them; what cannot be had is an error with the arithmetic."""
    parallel = _data_parallel(stage, world, session)
    wanted = _global(stage, chooser)
    micro, accumulate = _given(stage, "micro"), _given(stage, "accumulate")
    if micro is None:
        micro = _micro(wanted, accumulate, parallel)
        chooser.set(
            "batch.micro", micro, "1 until there is a memory model" if micro == 1 else "from the batch equation"
        )
    if accumulate is None:
        accumulate = max(1, wanted // (micro * parallel)) if wanted else 1
        chooser.set("batch.accumulate", accumulate, "from the batch equation" if wanted else "nothing asks for more")
    batch = Batch(micro, accumulate, parallel)
    if wanted is not None and batch.total != wanted:
        _refuse(stage, batch, wanted, session)
    return batch


def _given(stage: Stage, name: str) -> int | None:
    value = getattr(stage.settings.batch, name)
    return value if isinstance(value, int) else None


def _micro(wanted: int | None, accumulate: int | None, parallel: int) -> int:
    """1, or what the other two leave."""
    if wanted and accumulate and wanted % (accumulate * parallel) == 0:
        return wanted // (accumulate * parallel)
    return 1


def _global(stage: Stage, chooser: Chooses) -> int | None:
    batch = stage.settings.batch
    if batch.tokens is not None and batch.global_ is None:
        return max(1, int(batch.tokens) // int(chooser.get("max_len")))
    return batch.global_ if isinstance(batch.global_, int) else None


def _data_parallel(stage: Stage, world: World, session: Session) -> int:
    """Ranks that see different rows: processes / (tensor x pipeline x context)."""
    parallel = stage.settings.parallel
    split = 1
    for name in ("tensor", "pipeline", "context"):
        value = getattr(parallel, name)
        split *= value if isinstance(value, int) else 1
    if world.size % split:
        span = stage.spans.get("parallel.tensor") or stage.spans.get("parallel", stage.span)
        text = f"{world.size} processes cannot be split into groups of {split} (tensor x pipeline x context)"
        session.sink.error("FT401", text, span)
        return 1
    asked = parallel.data
    if isinstance(asked, int) and not isinstance(asked, Term) and asked != world.size // split:
        text = f"`data = {asked}`, but {world.size} processes / {split} = {world.size // split}"
        session.sink.error("FT401", text, stage.spans.get("parallel.data", stage.span))
    return world.size // split


def _refuse(stage: Stage, batch: Batch, wanted: int, session: Session) -> None:
    span = stage.spans.get("batch.global") or stage.spans.get("batch.tokens") or stage.spans.get("batch", stage.span)
    ways = batch.micro * batch.data_parallel
    near = [n for n in (wanted // ways * ways, (wanted // ways + 1) * ways) if n]
    label = f"{batch.micro} micro x {batch.accumulate} accumulate x {batch.data_parallel} data-parallel = {batch.total}"
    help = f"write `global = {near[-1] if len(near) == 1 else ' or '.join(map(str, near))}`, or change `micro`"
    session.sink.error("FT401", f"a batch of {wanted} cannot be made up", span, label=label, help=help)
