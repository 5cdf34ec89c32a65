"""The parameters that a stage of TRL can have, from the catalogue: what `trl { }` may write."""

from __future__ import annotations

from collections.abc import Mapping

from ftdsl import catalog
from ftdsl.catalog import Fact
from ftdsl.environments import Versions
from ftdsl.recipe.recipe import Stage

CLASSES = {
    "pretrain": "SFTConfig", "sft": "SFTConfig", "eval": "SFTConfig", "reward": "RewardConfig", "dpo": "DPOConfig",
    "kto": "KTOConfig", "grpo": "GRPOConfig", "distill": "DistillationConfig",
}  # fmt: skip
"""Kind of stage -> TRL's configuration class."""

_PEFT = {"prefix": "PrefixTuningConfig", "prompt": "PromptTuningConfig"}
"""Method -> PEFT's configuration class."""


def parameters(stage: Stage, versions: Versions) -> Mapping[str, Fact]:
    """Fields of TrainingArguments, of the stage's class, and of PEFT's class of its adapter (`peft.r`)."""
    own = CLASSES.get(stage.kind, "")
    fields = {name: fact for name, fact in versions.schema.items() if own in fact.get("classes", (own,))}
    config = peft_class(stage)
    known = catalog.schema("peft", versions.facts("peft"), "parameters")
    adapter = {f"peft.{name.partition('.')[2]}": fact for name, fact in known.items() if name.startswith(f"{config}.")}
    return {**fields, **adapter}


def peft_class(stage: Stage) -> str:
    """PEFT's configuration class of the stage's new adapter; "" for adapters of ours, whose fields all have a key."""
    settings = stage.settings
    if settings.has("adapter") or (settings.has("lora") and settings.get("lora.experts")):
        return ""
    if settings.has("prompt") and settings.name("prompt.encoder") not in ("", "none"):
        return "PromptEncoderConfig"
    for method, config in _PEFT.items():
        if settings.has(method):
            return config
    variant = settings.name("lora.variant") if settings.has("lora") else ""
    if variant in catalog.variants():
        return str(catalog.variants()[variant]["config"])
    return "AdaLoraConfig" if settings.has("lora") and settings.get("lora.rank_budget") else "LoraConfig"
