"""What LLaMA-Factory can and cannot do, as far as planning depends on it (`ftdsl.plan.engine.Abilities`).

Dtypes of a model (llamafactory/model/adapter.py, `init_adapter`): trained weights are fp32 unless `pure_bf16` or ZeRO-3; a
frozen base has the compute dtype; DeepSpeed keeps 16-bit weights with fp32 copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.engines.shared.chat_template import template_of_base
from ftdsl.environments import Versions
from ftdsl.language.values import Amount
from ftdsl.plan.engine import ZERO, Layout
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen

NAME, TITLE = "llamafactory", "LLaMA-Factory"

MAX_LEN = 2048
"""Default length to which rows are truncated, in tokens (hparams/data_args.py, cutoff_len)."""

NEW_TOKENS = 1024
"""Default maximum of generated tokens (hparams/generating_args.py)."""

_OFFLOADED_ADAM = ("", "adamw", "adamw_torch", "adamw_torch_fused")
"""Optimizers that DeepSpeed's CPU Adam replaces with the same meaning (FT408)."""

LIGER = {"gemma", "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "granite", "llama", "mistral", "mixtral", "olmo2", "phi3",
         "qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5"}  # fmt: skip
"""Architectures that Liger's kernels are applied to (model/model_utils/liger_kernel.py)."""


@frozen
class LlamaFactoryAbilities:
    """Sources of the limits: hparams/parser.py, model/model_utils/quantization.py."""

    name: str = NAME
    title: str = TITLE

    def defaults(self, stage: Stage) -> Mapping[str, Any]:
        """The engine's own defaults of settings that a recipe may leave open; streaming needs at least one worker, since the
        engine splits a streamed file by workers.
        """
        steps = Amount(500, "steps")
        workers = 1 if stage.settings.get("loader.streaming") else 0
        return {"max_len": MAX_LEN, "save.every": steps, "evaluate.every": steps, "loader.workers": workers,
                "loader.tokenize": 1}  # fmt: skip

    def possible(self, stage: Stage, layout: Layout, world: World) -> bool:
        """Not possible: ZeRO-3 with a stacked adapter, an 8-bit base, pure bf16, text metrics, Unsloth or KTransformers;
        GaLore and APOLLO with DeepSpeed; BAdam on several processes without ZeRO-3.
        """
        settings, optimizer = stage.settings, stage.settings.name("optim.name")
        whole = layout.strategy in ("zero3", "fsdp1", "fsdp2")
        if whole and (stage.new_adapter or layout.bits == 8):
            return False
        own_layers = {"unsloth", "ktransformers"}.intersection(settings.names("kernels"))
        if layout.strategy == "zero3" and (layout.precision == "pure_bf16" or own_layers or self.generates(stage)):
            return False
        if layout.offload != "none" and optimizer not in _OFFLOADED_ADAM:
            return False
        if optimizer in ("galore", "apollo"):
            return layout.method != "lora" and layout.strategy not in ZERO
        if optimizer == "badam" and world.size > 1:
            return layout.strategy == "zero3"
        return not settings.has("quantize") or layout.method in ("lora", "oft")

    def one_sequence(self, stage: Stage) -> bool:
        """FlashAttention 2 takes one neat pack at a time (llamafactory/data/collator.py:528, 0.9.5)."""
        settings = stage.settings
        neat = settings.get("packing") is True or settings.name("packing") == "neat"
        return neat and settings.name("attention") == "flash2"

    def fused_loss(self, stage: Stage, family: str) -> str:
        """Liger's, where its kernels know the architecture, and the loss is over the next token: others ask for logits
        (model/model_utils/liger_kernel.py, require_logits)."""
        others = {"liger", "unsloth", "ktransformers", "npu"}.intersection(stage.settings.names("kernels"))
        return "liger" if stage.kind in ("sft", "pretrain") and family in LIGER and not others else ""

    def generates(self, stage: Stage) -> bool:
        """For text metrics, and for PPO's answers."""
        metrics = set(stage.settings.names("evaluate.metrics"))
        return stage.kind == "ppo" or bool(metrics & {"rouge", "bleu"})

    def setup(self, stage: Stage, layout: Layout) -> Mapping[str, Any]:
        """Dtypes, loss, additional frozen models, and generated tokens."""
        generated = NEW_TOKENS if self.generates(stage) else 0
        return {**_precision(stage, layout), **_objective(stage, layout), "generated": generated}

    def template(self, base: Any, versions: Versions) -> tuple[str, str]:
        """From the engine's own list of models, else by the architecture."""
        return template_of_base(base, NAME, versions.facts())


def _precision(stage: Stage, layout: Layout) -> dict[str, Any]:
    half = "fp16" if layout.precision == "fp16" else "bf16"
    pure, plain = layout.precision == "pure_bf16", layout.precision == "fp32"
    adapts = layout.method != "full"
    if adapts:
        base, trained = ("fp32" if plain else half), ("bf16" if pure else "fp32")
    else:
        base = trained = half if stage.settings.name("optim.name") == "badam" else "bf16" if pure else "fp32"
    master = layout.strategy in ZERO and not plain and not (adapts and layout.bits)
    if master:
        base = trained = half
    return {"base_dtype": base, "train_dtype": trained, "master": master, "autocast": not pure and not plain}


def _objective(stage: Stage, layout: Layout) -> dict[str, Any]:
    """The loss, and the additional frozen models: a copy as reference unless an adapter can be switched off
    (train/trainer_utils.py: create_ref_model), and PPO's reward model (create_reward_model)."""
    get, name = stage.settings.get, stage.settings.name
    if stage.kind == "dpo" and name("loss") in ("orpo", "simpo"):
        return {"objective": "preference"}
    if stage.kind not in ("dpo", "kto", "ppo", "reward"):
        return {}
    copies = 0 if stage.kind == "reward" or (layout.method == "lora" and get("reference") is None) else 1
    rewarded = stage.kind == "ppo" and layout.method != "lora"
    bits = get("reference_bits")
    return {"objective": stage.kind, "references": copies + rewarded,
            "reference_quant": {4: "nf4-dq", 8: "int8"}.get(bits, "none") if isinstance(bits, int) else "none"}  # fmt: skip
