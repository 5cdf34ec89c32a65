"""Optimizers with conditions: GaLore, APOLLO, BAdam, LoRA+, and the curve of the rate."""

from __future__ import annotations

from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Term

LOW_RANK = {"galore": "GaLore", "apollo": "APOLLO"}
OWN = {**LOW_RANK, "badam": "BAdam"}
SHARDED = ("zero0", "zero1", "zero2", "zero3")


def with_adapters(work: Work) -> None:
    """llamafactory/hparams/finetuning_args.py: "Cannot use LoRA with GaLore, APOLLO or BAdam together"."""
    name = work.name("optim.name")
    if name in OWN and work.planned.method == "lora":
        work.refuse("optim.name", f"{OWN[name]} trains all weights, and LoRA an adapter", "write `full {}`")


def with_deepspeed(work: Work) -> None:
    """llamafactory/hparams/parser.py: GaLore and APOLLO never; BAdam by layer needs ZeRO-3 as soon as there are ranks."""
    name, strategy = work.name("optim.name"), work.planned.strategy
    several = work.planned.world.size > 1 or strategy in SHARDED
    if name in LOW_RANK and strategy in SHARDED:
        work.refuse("optim.name", f"{LOW_RANK[name]} does not work with DeepSpeed", "write `strategy = ddp`")
    if name != "badam" or not several:
        return
    if work.option("optim.name", "mode") == Term("ratio"):
        work.refuse("optim.name", "BAdam by ratio trains in one process only", "write `badam(mode = layer)` with zero3")
    elif strategy != "zero3":
        work.refuse("optim.name", "BAdam on several ranks needs ZeRO-3", "write `parallel { strategy = zero3 }`")


def layerwise(work: Work) -> None:
    """llamafactory/train/trainer_utils.py, _create_galore_optimizer and _create_apollo_optimizer; hparams/parser.py."""
    name = work.name("optim.name")
    if name not in LOW_RANK or work.option("optim.name", "layerwise") is not True:
        return
    if work.planned.batch and work.planned.batch.accumulate != 1:
        work.refuse("batch.accumulate", f"layer-wise {LOW_RANK[name]} cannot accumulate", "write `accumulate = 1`")
    if work.planned.world.size > 1:
        work.refuse("optim.name", f"layer-wise {LOW_RANK[name]} trains in one process only", "drop `layerwise`")


def galore_base(work: Work) -> None:
    """llamafactory/train/trainer_utils.py, _create_galore_optimizer: AdamW, its 8-bit form, Adafactor."""
    base = work.option("optim.name", "base") if work.name("optim.name") == "galore" else None
    name = str(getattr(base, "name", base))
    if base is not None and name not in ("adamw", "adamw_8bit", "adafactor"):
        work.refuse("optim.name", f"GaLore cannot stand on `{name}`", "base is adamw, adamw_8bit or adafactor")
    if name == "adamw_8bit" and not work.planned.world.gpu:
        work.refuse("optim.name", "GaLore in 8 bits needs a GPU", "write `base = adamw`")


def lora_plus(work: Work) -> None:
    """llamafactory/train/trainer_utils.py, create_custom_optimizer: LoRA+ comes first, the others are never made."""
    name = work.name("optim.name")
    if work.get("lora.lr_ratio") and name in ("muon", "adam_mini"):
        why = f"LoRA+ makes the optimizer itself, and `{name}` would be ignored"
        work.refuse("optim.name", why, "write `name = adamw`, or drop `lora.lr_ratio`")


LIMITS = (with_adapters, with_deepspeed, layerwise, galore_base, lora_plus)
