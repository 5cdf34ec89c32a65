"""Adapters that PEFT lacks (runtime/tuners.py): fields of their configuration classes."""

from __future__ import annotations

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext

BOTTLENECK, MOE_LORA = "FTDSL_BOTTLENECK", "FTDSL_MOE_LORA"
TYPES = (BOTTLENECK, MOE_LORA)
BALANCE = 0.01
"""Weight of the load-balance loss in Switch Transformers (arXiv:2101.03961)."""


def bottleneck(context: StageContext) -> Params:
    """`adapter { }`."""
    get = context.get
    return {
        "peft_type": BOTTLENECK, "size": get("adapter.size"), "sublayers": plain(get("adapter.sublayers")),
        "activation": plain(get("adapter.activation")), "dropout": plain(get("adapter.dropout")),
    }  # fmt: skip


def mixture(context: StageContext, modules: Params) -> Params:
    """`lora { experts }`. modules: dropout, and the modules that get an adapter, as of a plain LoRA."""
    get = context.get
    rank, experts, balance = get("lora.rank") or 8, get("lora.experts"), get("lora.balance")
    top_k = get("lora.top_k") or min(2, experts - 1)
    if top_k > experts:
        text = f"`top_k = {top_k}` is more than there are experts"
        context.refuse("lora.top_k", text, f"write `top_k = {experts}`, or more `experts`")
    for key in ("rslora", "init", "variant", "rank_budget", "target_parameters"):
        if get(f"lora.{key}") and context.name(f"lora.{key}") not in ("plain", "zero"):
            context.refuse(f"lora.{key}", f"a mixture has plain LoRA experts, without `{key}`", "drop one of them")
    return {
        "peft_type": MOE_LORA, "r": rank, "lora_alpha": plain(get("lora.alpha") or 2 * rank), **modules, "experts": experts,
        "top_k": top_k, "balance": plain(BALANCE if balance is None else balance),
    }  # fmt: skip


def without_experts(context: StageContext) -> None:
    """Keys of a mixture that mean nothing without `experts`."""
    for name in ("top_k", "balance"):
        if context.is_explicit(f"lora.{name}"):
            context.refuse(f"lora.{name}", f"`{name}` is of a mixture of experts", "write `experts = 4`, or drop it")
