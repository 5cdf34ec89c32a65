"""What merges and quantisations have in common, whichever engine or tool does them."""

from __future__ import annotations

from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.lint.families.quantization import PTQ


def refuse_quantised(context: StageContext) -> None:
    """A base that is loaded in 4 or 8 bits takes no adapters: their sum is not a multiple of its steps."""
    if context.is_explicit("quantize.bits") or context.is_explicit("quantize.scheme"):
        help = "write a `quantize` stage after it"
        context.refuse("quantize", "adapters can be merged only into weights that are not quantised", help)


def warn_quantised_by_name(context: StageContext) -> None:
    """A checkpoint whose name says that it is quantised; its weights are not read here."""
    base = context.stage.start.base if context.stage.start else None
    name = str(base.options.get("id") or base.options.get("path") or "") if isinstance(base, Term) else ""
    if PTQ.search(name.lower()):
        text = f"by its name, `{name}` is quantised already"
        span = context.stage.spans.get("model", context.stage.span)
        context.session.sink.warning("FT975", text, span, help="name the model that it was made from")


def merges_reward_model(context: StageContext) -> bool:
    """Whether what is merged was trained by a `reward` stage, and has a value head beside its weights."""
    start = context.stage.start
    last = (start.adapters[-1] if start.adapters else start.base) if start else None
    return isinstance(last, StageRef) and context.plan.stage(last.key).stage.kind == "reward"
