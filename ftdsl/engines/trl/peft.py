"""The document's `peft` block: fields of one of PEFT's configuration classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.trl import own_adapters
from ftdsl.language.values import Term


def peft(context: StageContext) -> Params:
    """The new adapter of a stage; {} where all weights or an existing adapter are trained."""
    start = context.stage.start
    if context.planned.method == "full" or (start and start.adapters and not context.stage.new_adapter):
        return {}
    return _BLOCKS.get(context.planned.method, _lora)(context)


def _lora(context: StageContext) -> Params:
    """LoRA, or another adapter of PEFT as a variant."""
    if context.get("lora.experts"):
        return own_adapters.mixture(context, {"lora_dropout": _dropout(context), **_targets(context)})
    own_adapters.without_experts(context)
    variant = context.name("lora.variant")
    if variant in catalog.variants():
        return _variant(context, variant, catalog.variants()[variant])
    if context.get("lora.rank_budget"):
        return _dynamic(context)
    rank = context.get("lora.rank") or 8
    params: Params = {"peft_type": "LORA", "r": rank, "lora_alpha": plain(context.get("lora.alpha") or 2 * rank),
                      "lora_dropout": _dropout(context), **_targets(context)}  # fmt: skip
    if context.get("lora.rslora"):
        params["use_rslora"] = True
    if variant == "dora":
        params["use_dora"] = True
    if start := _init(context):
        params["init_lora_weights"] = start
    return params


def _init(context: StageContext) -> str:
    """PEFT's name of the start; "" for zero."""
    value = context.get("lora.init")
    if not isinstance(value, Term) or value.name == "zero":
        return ""
    if value.name != "pissa":
        return str(catalog.variants("init")[value.name]["value"])
    if value.options.get("convert"):
        why = "PEFT saves a PiSSA adapter with what it starts from, and loads it exactly"
        context.refuse("lora.init", why, "drop `convert`")
    steps = value.options.get("iterations")
    return f"pissa_niter_{steps}" if isinstance(steps, int) else "pissa"


def _dynamic(context: StageContext) -> Params:
    """AdaLoRA. The runtime fits its schedule to the number of steps: `total_step` is written by it."""
    budget = context.get("lora.rank_budget")
    rank = context.get("lora.rank")
    first = rank if isinstance(rank, int) else math.ceil(1.5 * budget)
    if first <= budget:
        why = f"training starts with rank {first}, which leaves nothing to take away down to {budget:g}"
        context.refuse("lora.rank_budget", why, f"write `rank = {math.ceil(1.5 * budget)}`, or leave it out")
    for key in ("variant", "init", "rslora", "target_parameters"):
        if context.is_explicit(f"lora.{key}") and context.name(f"lora.{key}") not in ("plain", "zero"):
            context.refuse(f"lora.{key}", f"AdaLoRA (`rank_budget`) has no `{key}`", "drop one of them")
    alpha = context.get("lora.alpha")
    return {"peft_type": "ADALORA", "target_r": int(budget), "init_r": first, "lora_alpha": plain(alpha or 2 * first),
            "lora_dropout": _dropout(context), **_targets(context)}  # fmt: skip


def _variant(context: StageContext, name: str, variant: Mapping[str, Any]) -> Params:
    """Another adapter: what `rank`, `alpha` and `dropout` are called there. What the author leaves open keeps PEFT's default."""
    params: Params = {"peft_type": variant["type"], **_targets(context), **variant.get("fixed", {})}
    for key in ("rank", "alpha", "dropout"):
        if not context.is_explicit(f"lora.{key}"):
            continue
        if field := variant.get(key):
            params[field] = plain(context.get(f"lora.{key}"))
        elif context.get(f"lora.{key}") and plain(context.get(f"lora.{key}")):
            context.refuse(f"lora.{key}", f"`{name}` has no `{key}`", "drop it")
    for key in ("init", "rslora", "rank_budget", "target_parameters"):
        if context.is_explicit(f"lora.{key}") and context.get(f"lora.{key}") and context.name(f"lora.{key}") != "zero":
            context.refuse(f"lora.{key}", f"`{key}` is of LoRA, and `{name}` is another adapter", "drop one of them")
    if "target_modules" in variant.get("fixed", {}) and context.is_explicit("lora.targets"):
        params["target_modules"] = [plain(target) for target in context.get("lora.targets")]
    return params


def _dropout(context: StageContext) -> float:
    return float(plain(context.get("lora.dropout") or 0.0))


def _targets(context: StageContext) -> Params:
    """Modules that get an adapter (`all-linear` for all), parameters that do, and modules that are trained whole."""
    names = [plain(name) for name in context.get("lora.targets") or ["all"]]
    params: Params = {"target_modules": "all-linear" if "all" in names else names}
    if parameters := context.get("lora.target_parameters"):
        params["target_parameters"] = [plain(name) for name in parameters]
        if not context.is_explicit("lora.targets"):
            params["target_modules"] = []
    if saved := context.get("lora.modules_to_save"):
        params["modules_to_save"] = [plain(name) for name in saved]
    return params


def _prefix(context: StageContext) -> Params:
    params: Params = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": context.get("prefix.tokens")}
    return params | ({"prefix_projection": True} if context.get("prefix.projection") else {})


def _prompt(context: StageContext) -> Params:
    """Soft prompts, or p-tuning where the embeddings come out of a network."""
    params: Params = {"num_virtual_tokens": context.get("prompt.tokens")}
    text, encoder = context.get("prompt.text"), context.name("prompt.encoder")
    if encoder not in ("", "none"):
        if text:
            context.refuse("prompt.text", "embeddings that come out of a network do not start from a text", "drop it")
        return {"peft_type": "P_TUNING", **params, "encoder_reparameterization_type": encoder.upper()}
    start: Params = {}
    if text and context.stage.start:
        tokenizer = context.paths.model(context.stage.start.base)
        start = {
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": str(text),
            "tokenizer_name_or_path": tokenizer,
        }
    return {"peft_type": "PROMPT_TUNING", **params, **start}


_BLOCKS: Mapping[str, Callable[[StageContext], Params]] = {
    "lora": _lora, "prefix": _prefix, "prompt": _prompt, "adapter": own_adapters.bottleneck,
}  # fmt: skip

"""Method block -> its lowering."""


def merges(params: Mapping[str, Any]) -> bool:
    """Whether the weights of a base can take an adapter up."""
    kinds = {variant["type"]: bool(variant["merges"]) for variant in catalog.variants().values()}
    return kinds.get(params["peft_type"], params["peft_type"] in ("LORA", "ADALORA"))
