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


def mixture(context: StageContext, lora: Params) -> Params:
    """`lora { experts }`. lora: the fields of a plain LoRA with the same keys."""
    get = context.get
    experts = get("lora.experts")
    top_k = get("lora.top_k") or min(2, experts - 1)
    if top_k > experts:
        text = f"`top_k = {top_k}` is more than there are experts"
        context.refuse("lora.top_k", text, f"write `top_k = {experts}`, or more `experts`")
    for key, name in (("rslora", "use_rslora"), ("init", "init_lora_weights"), ("variant", "use_dora")):
        if name in lora or (key == "variant" and context.name("lora.variant") not in ("", "plain")):
            context.refuse(f"lora.{key}", f"a mixture of experts has plain LoRA experts, without `{key}`", "drop it")
    kept = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save")
    balance = get("lora.balance")
    return {
        "peft_type": MOE_LORA, **{name: lora[name] for name in kept if name in lora}, "experts": experts, "top_k": top_k,
        "balance": plain(BALANCE if balance is None else balance),
    }  # fmt: skip


def without_experts(context: StageContext) -> None:
    """Keys of a mixture that mean nothing without `experts`."""
    for name in ("top_k", "balance"):
        if context.is_explicit(f"lora.{name}"):
            context.refuse(f"lora.{name}", f"`{name}` is of a mixture of experts", "write `experts = 4`, or drop it")
