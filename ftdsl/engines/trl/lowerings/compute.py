"""Precision, gradient checkpointing and packing; TRL's defaults are for GPUs, so all are written out."""

from __future__ import annotations

from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Term


def precision(context: StageContext) -> Params:
    """`bf16` is on by default in TRL (trl/trainer/base_config.py). `dtype` is that of the weights as they are loaded: fp32 where
    all are trained, the compute dtype where a frozen base has adapters (PEFT keeps adapters in fp32)."""
    name = context.planned.precision
    half = {"fp16": "float16", "bf16": "bfloat16", "pure_bf16": "bfloat16"}.get(name, "float32")
    if name == "fp8":
        context.refuse("precision", f"{context.engine.title} has no fp8 training", "write `precision = bf16`")
    full = context.planned.method == "full" and name != "pure_bf16"
    return {"dtype": "float32" if full else half, "bf16": name == "bf16", "fp16": name == "fp16"}


def checkpointing(context: StageContext) -> Params:
    """On by default in TRL."""
    value = context.get("memory.checkpointing")
    name = value.name if isinstance(value, Term) else {True: "full", False: "none"}.get(value, "none")
    if name == "selective":
        help = "use `full` or `none`"
        context.refuse("memory.checkpointing", f"{context.engine.title} checkpoints every layer or none", help)
    if name == "none":
        return {"gradient_checkpointing": False}
    if context.planned.method == "prefix":
        why = "a prefix is kept in the attention cache, which gradient checkpointing switches off"
        context.refuse("memory.checkpointing", why, "write `checkpointing = none`")
    reentrant = bool(context.option("memory.checkpointing", "reentrant"))
    return {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}


def packing(context: StageContext) -> Params:
    """`neat` keeps rows apart by position ids, which only FlashAttention reads (trl/trainer/sft_trainer.py, padding_free)."""
    value = context.get("packing")
    if context.stage.kind != "sft" or value in (None, False):
        return {}
    name = "neat" if value is True else value.name
    if name == "neat" and not context.name("attention").startswith("flash"):
        why = f"{context.engine.title} keeps packed rows apart only with FlashAttention"
        context.refuse("packing", why, "write `attention = flash2`, or `packing = plain`")
    return {"packing": True, "packing_strategy": "bfd" if name == "neat" else "wrapped"}
