"""What merges of adapters into their base have in common, whichever engine does them."""

from __future__ import annotations

from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef


def refuse_quantised(context: StageContext) -> None:
    """A base that is loaded in 4 or 8 bits takes no adapters: their sum is not a multiple of its steps."""
    if context.is_explicit("quantize.bits") or context.is_explicit("quantize.scheme"):
        help = "write a `quantize` stage after it"
        context.refuse("quantize", "adapters can be merged only into weights that are not quantised", help)


def merges_reward_model(context: StageContext) -> bool:
    """Whether what is merged was trained by a `reward` stage, and has a value head beside its weights."""
    start = context.stage.start
    last = (start.adapters[-1] if start.adapters else start.base) if start else None
    return isinstance(last, StageRef) and context.plan.stage(last.key).stage.kind == "reward"
