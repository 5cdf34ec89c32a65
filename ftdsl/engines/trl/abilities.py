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
from ftdsl.language.values import Amount, Term
from ftdsl.plan.engine import ZERO, Layout
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Stage
from ftdsl.recipe.rules.post_training import on_policy
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
        return stage.kind == "grpo" or (stage.kind == "distill" and stage.settings.get("teacher") is not None)

    def setup(self, stage: Stage, layout: Layout) -> Mapping[str, Any]:
        """Dtypes, loss, additional frozen models, and the answers that it trains on."""
        precision = _precision(layout)
        answers = _answers(stage) if self.generates(stage) else {}
        return {
            **precision, **_objective(stage, layout), **answers, "loss": _loss(stage), "generated": 0,
            "reference_dtype": precision["base_dtype"],
        }  # fmt: skip

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
    if stage.kind == "grpo":
        return {"references": int(layout.method == "full" and bool(stage.settings.get("beta")))}
    if stage.kind not in ("dpo", "kto", "reward"):
        return {}
    adapter_off = layout.method != "full" and stage.settings.get("reference") is None
    return {"objective": stage.kind, "references": 0 if stage.kind == "reward" or adapter_off else 1}


def _loss(stage: Stage) -> str:
    """TRL's trainers work log-probabilities out in tiles (trl/trainer/utils.py: add_fused_lm_head, 1.16.0)."""
    if stage.kind == "reward":
        return "score"
    return "trl_pairs" if stage.kind == "distill" and stage.settings.get("teacher") is not None else "trl_tiles"


VLLM_MEMORY = 0.3
"""Share of a GPU that vLLM takes beside the training (trl/trainer/grpo_config.py, vllm_gpu_memory_utilization)."""


def _answers(stage: Stage) -> dict[str, Any]:
    """Tokens of an answer, who writes it, and how often: once for all inner epochs; in distillation for a share of the steps."""
    get, option = stage.settings.get, stage.settings.get("backend")
    rounds = int(get("inner_epochs") or 1)
    share = on_policy(stage.settings) if stage.kind == "distill" else 1 / rounds
    served = isinstance(option, Term) and option.name == "vllm"
    answers: dict[str, Any] = {"rollout": int(get("generate.max_new_tokens") or ANSWER), "rollout_share": share}
    answers["nucleus"] = (get("generate.top_p") or 1) < 1
    if served:
        colocated = option.options.get("url") is None
        share_of_gpu = option.options.get("gpu_memory") or VLLM_MEMORY
        answers |= {"vllm": True, "served": float(getattr(share_of_gpu, "number", share_of_gpu)) if colocated else 0.0}
    if stage.kind == "grpo":
        old = served or rounds > 1  # probabilities before any update of these answers
        answers["extra_forwards"] = (bool(get("beta")) + old) / rounds
    return answers


ANSWER = 512
"""TRL's own default length (trl/trainer/grpo_config.py, max_completion_length)."""
