"""What TRL can do, as far as planning depends on it (`ftdsl.plan.engine.Abilities`).

Dtypes of a model (runtime/tuning/models.py): trained weights are fp32 unless `pure_bf16` or under DeepSpeed; a frozen base has
the compute dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.engines.shared.chat_template import template_of_base
from ftdsl.environments import Versions
from ftdsl.language.values import Amount
from ftdsl.plan.engine import ZERO, Layout
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen

NAME, TITLE = "trl", "TRL"

MAX_LEN = 1024
"""Default length to which rows are truncated, in tokens (trl/trainer/sft_config.py, max_length)."""


@frozen
class TrlAbilities:
    """Sources of the limits: trl/trainer/sft_trainer.py, dpo_trainer.py, kto_trainer.py (1.16.0)."""

    name: str = NAME
    title: str = TITLE

    def defaults(self, stage: Stage) -> Mapping[str, Any]:
        """The engine's own defaults of settings that a recipe may leave open."""
        steps = Amount(500, "steps")
        return {
            "max_len": MAX_LEN,
            "save.every": steps,
            "evaluate.every": steps,
            "loader.workers": 0,
            "loader.tokenize": 1,
        }

    def possible(self, stage: Stage, layout: Layout, world: World) -> bool:
        """Not possible: a quantised base under ZeRO-3 or FSDP in 8 bits, whole methods on a quantised base, offload of an
        optimizer that DeepSpeed would replace."""
        settings = stage.settings
        if layout.method == "prefix" and layout.checkpointing != "none":
            return False  # the prefix is kept in the attention cache, which checkpointing switches off
        if layout.strategy in ("zero3", "fsdp1", "fsdp2") and (stage.new_adapter or layout.bits == 8):
            return False
        if layout.offload != "none" and settings.name("optim.name") not in (
            "",
            "adamw",
            "adamw_torch",
            "adamw_torch_fused",
        ):
            return False
        return not settings.has("quantize") or layout.method != "full"

    def one_sequence(self, stage: Stage) -> bool:
        return False

    def fused_loss(self, stage: Stage, family: str) -> str:
        """None as a setting: SFT, DPO and KTO compute the loss without all logits by themselves (fused_lm_head)."""
        return ""

    def generates(self, stage: Stage) -> bool:
        """On-policy stages train on the tokens that they generate."""
        return stage.kind in ("grpo", "distill")

    def setup(self, stage: Stage, layout: Layout) -> Mapping[str, Any]:
        """Dtypes, loss, additional frozen models."""
        return {**_precision(layout), **_objective(stage, layout), "generated": 0}

    def template(self, base: Any, versions: Versions) -> tuple[str, str]:
        """By the family of the model, from the list of chat formats in the catalogue."""
        package, _ = catalog.chat_formats()
        return template_of_base(base, package)


def _precision(layout: Layout) -> dict[str, Any]:
    half = "fp16" if layout.precision == "fp16" else "bf16"
    pure, plain = layout.precision == "pure_bf16", layout.precision == "fp32"
    if layout.method == "full":
        base = trained = "bf16" if pure else "fp32"
    else:
        base, trained = ("fp32" if plain else half), ("bf16" if pure else "fp32")
    master = layout.strategy in ZERO and not plain and not (layout.method != "full" and layout.bits)
    if master:
        base = trained = half
    return {"base_dtype": base, "train_dtype": trained, "master": master, "autocast": not pure and not plain}


def _objective(stage: Stage, layout: Layout) -> dict[str, Any]:
    """The loss, and a copy of the model as reference unless an adapter can be switched off."""
    if stage.kind in ("grpo", "distill"):
        own_copy = layout.method == "full" and bool(stage.settings.get("beta"))
        return {"references": int(own_copy or stage.settings.get("teacher") is not None)}
    if stage.kind not in ("dpo", "kto", "reward"):
        return {}
    adapter_off = layout.method != "full" and stage.settings.get("reference") is None
    return {"objective": stage.kind, "references": 0 if stage.kind == "reward" or adapter_off else 1}
