"""From a stage and its layout to the estimator's setup (`ftdsl.estimate`).

How an engine holds a model and which loss it computes are the engine's to say (`Abilities.setup`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.estimate.setup import Setup
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.engine import FSDP, Abilities, Layout
from ftdsl.plan.model_sizes import sizes_in_folder, sizes_of
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Lineage, Recipe, Stage
from ftdsl.recipe.shape import PAIRS, local_path
from ftdsl.session import Files


def architecture_of(stage: Stage, recipe: Recipe, files: Files | None = None, hub: Path | None = None) -> Architecture:
    """Sizes of the model that a stage starts from, through earlier stages. files: the file system to read; hub: the folder of
    the hub's cache. Raises: NotModelledError."""
    if stage.start is None:
        raise NotModelledError("the stage has no model")
    return _sizes(_bottom(stage.start, recipe), recipe, files or Files(), hub)


def beside(
    stage: Stage, recipe: Recipe, own: Architecture, files: Files | None = None, hub: Path | None = None
) -> dict[str, Any]:
    """Fields of `Setup` for models of other sizes that a stage uses: the teacher, reward models that judge. own: sizes of the
    model that is trained, which a model of unknown size is taken to have."""
    unknown: list[str] = []

    def sizes(value: Any, what: str) -> Architecture:
        made = recipe.find(value.key) if isinstance(value, StageRef) else None
        base = _bottom(made.result, recipe) if made and made.result else value
        try:
            return _sizes(base, recipe, files or Files(), hub)
        except NotModelledError:
            unknown.append(what)
            return own

    teacher = stage.settings.get("teacher") if stage.kind == "distill" else None
    judged = [
        reward.options["model"]
        for reward in stage.settings.items("rewards")
        if isinstance(reward, Term) and reward.name == "judge"
    ]
    sizes_of_others = {
        "teachers": () if teacher is None else (sizes(teacher, "the teacher's size"),),
        "judges": tuple(sizes(model, "a judge's size") for model in judged),
    }
    return {**sizes_of_others, "unknown": tuple(dict.fromkeys(unknown))}


def _sizes(base: Any, recipe: Recipe, files: Files, hub: Path | None) -> Architecture:
    """Sizes of a base model. Raises: NotModelledError."""
    options = base.options if isinstance(base, Term) else {}
    like = options.get("like")
    if isinstance(base, Term) and base.name == "scratch" and like is None:
        return _scratch(options)
    if isinstance(like, Term | str):
        name = like.options.get("id") if isinstance(like, Term) else like
        return sizes_of(str(name), recipe.folder, files, hub)
    if isinstance(base, Term) and (folder := local_path(base, recipe.folder)):
        return sizes_in_folder(folder, str(options["path"]), files)
    if name := options.get("id") or options.get("path"):
        return sizes_of(str(name), recipe.folder, files, hub)
    raise NotModelledError('the model has no name; `like = "org/name"` names a model of the same size')


def _bottom(lineage: Lineage, recipe: Recipe) -> Any:
    """The base model, through the results of earlier stages."""
    base: Any = lineage.base
    seen: set[str] = set()
    while isinstance(base, StageRef) and base.key not in seen:
        seen.add(base.key)
        stage = recipe.find(base.key)
        base = stage.start.base if stage and stage.start else None
    return base


def _scratch(options: Mapping[str, Any]) -> Architecture:
    """Sizes as `runtime.scratch` builds them: an MLP of four times the width, heads for all keys."""
    hidden, heads = int(options.get("hidden", 64)), int(options.get("heads", 4))
    architecture = options.get("architecture")
    family = architecture.name if isinstance(architecture, Term) else str(architecture or "llama")
    vocab, layers = int(options.get("vocab", 2048)), int(options.get("layers", 2))
    normed = family == "qwen3"
    return Architecture(hidden, layers, heads, heads, 4 * hidden, vocab, name="scratch", family=family, qk_norm=normed)


def setup_of(stage: Stage, world: World, layout: Layout, architecture: Architecture, engine: Abilities) -> Setup:
    """The setup to estimate. Raises: NotModelledError."""
    get, name = stage.settings.get, stage.settings.name
    if layout.bits not in (0, 4, 8):
        raise NotModelledError(f"a base in {layout.bits} bits is not modelled")
    kernels = set(stage.settings.names("kernels"))
    length = int(get("max_len") or 2048)
    mask = get("packing") is True or getattr(get("packing"), "name", "") == "neat"
    megatron = layout.strategy == "megatron"
    settings = {**_method(stage, layout), **_optimizer(stage), **engine.setup(stage, layout)}
    own_loss = settings.pop("loss", "")
    if megatron:
        settings |= MEGATRON
    return Setup(
        architecture,
        **settings,
        quant={0: "none", 4: "nf4-dq" if get("quantize.double") is not False else "nf4", 8: "int8"}[layout.bits],
        seq_len=length,
        seq_kind="exact" if mask else "limit",
        micro_batch=layout.micro * (2 if stage.kind in PAIRS else 1),
        eval_batch=_evaluated(stage, layout),
        checkpointing=layout.checkpointing,
        attention="eager"
        if name("attention") == "eager"
        else "flash"
        if name("attention").startswith("flash")
        else "sdpa",
        mask=mask,
        loss="megatron_ce"
        if megatron
        else own_loss
        if own_loss
        else "flce"
        if "liger" in kernels
        else "fused_ce_new"
        if "unsloth" in kernels
        else "hf_fp32_new",
        norms="fused" if megatron or kernels & {"liger", "unsloth"} else "eager",
        fused_adapters="unsloth" in kernels,
        strategy=_strategy(layout.strategy),
        offload={"optimizer": "optim"}.get(layout.offload, layout.offload),
        data=world.data,
        tensor=world.tensor,
        pipeline=world.pipeline,
        context=world.context,
        card=world.gpu,
        card_memory=card_memory(stage),
        expert=int(get("parallel.expert") or 1) if architecture.experts else 1,
        framework="megatron" if megatron else "hf",
    )


MEGATRON: dict[str, Any] = {
    "base_dtype": "bf16",
    "train_dtype": "bf16",
    "master": True,
    "autocast": False,
    "opt_in_backward": False,
}
"""Megatron's types: 16-bit weights, fp32 gradients and master weights, states sharded over data-parallel ranks."""


def _method(stage: Stage, layout: Layout) -> dict[str, Any]:
    """The trained parameters: all weights, some layers, adapters."""
    get, name = stage.settings.get, stage.settings.name
    if layout.method == "freeze":
        layers = get("freeze.layers")
        count = layers.options.get("n") if isinstance(layers, Term) else None
        return {
            "method": "freeze",
            "trained_layers": count if isinstance(count, int) else UNFROZEN,
            "trained_first": isinstance(layers, Term) and layers.name != "last",
            "trains_embeddings": _embeds(stage, "freeze.extra"),
        }
    if layout.method == "oft":
        block = get("oft.block")
        return {
            "method": "oft",
            "oft_block": block if isinstance(block, int) else OFT_BLOCK,
            "lora_targets": _targets(stage, "oft"),
            "trains_embeddings": _embeds(stage, "oft.modules_to_save"),
        }
    if layout.method == "full":
        return {}
    if layout.method in ("prefix", "prompt"):
        # As many trained numbers as LoRA on keys and values has at this rank, or more: little beside the frozen base.
        tokens = get(f"{layout.method}.tokens")
        return {
            "method": "lora",
            "lora_rank": tokens if isinstance(tokens, int) else LORA_RANK,
            "lora_targets": ("k", "v"),
        }
    if layout.method != "lora" or name("lora.variant") in catalog.variants():
        raise NotModelledError(
            f"`{name('lora.variant') if layout.method == 'lora' else layout.method}` is not modelled"
        )
    rank = get("lora.rank")
    if budget := get("lora.rank_budget"):  # AdaLoRA starts wider
        rank = rank if isinstance(rank, int) else math.ceil(1.5 * budget)
    return {"method": "lora", "lora_rank": rank if isinstance(rank, int) else LORA_RANK, "lora_targets": _targets(stage, "lora"),
            "lora_dropout": bool(getattr(get("lora.dropout"), "number", 0)), "dora": name("lora.variant") == "dora",
            "trains_embeddings": _embeds(stage, "lora.modules_to_save")}  # fmt: skip


LORA_RANK = 8
"""Defaults: a common rank, and LLaMA-Factory's own value."""

UNFROZEN, OFT_BLOCK = 2, 32
"""LLaMA-Factory's defaults: layers that `freeze` trains, block size of OFT (hparams/finetuning_args.py)."""


def _embeds(stage: Stage, key: str) -> bool:
    """Whether embedding or head are trained; then both are counted."""
    named = set(stage.settings.names(key))
    return bool(named & {"embed_tokens", "lm_head", "wte", "embed_out", "word_embeddings"})


def _optimizer(stage: Stage) -> dict[str, Any]:
    asked, get = stage.settings.name("optim.name"), stage.settings.get
    if asked not in _OPTIMIZERS:
        raise NotModelledError(f"the memory of the optimizer `{asked}` is not modelled")
    options = optimizer.options if isinstance(optimizer := get("optim.name"), Term) else {}
    if asked == "badam" and str(getattr(options.get("mode"), "name", options.get("mode"))) == "ratio":
        raise NotModelledError("the memory of BAdam by ratio is not modelled")
    rank = options.get("rank")
    return {"optimizer": _OPTIMIZERS[asked], "opt_in_backward": bool(options.get("layerwise")) or "lomo" in asked,
            "optimizer_rank": rank if isinstance(rank, int) else SUBSPACE}  # fmt: skip


SUBSPACE = 16
"""LLaMA-Factory's rank of GaLore's and APOLLO's subspace (hparams/finetuning_args.py)."""


def _evaluated(stage: Stage, layout: Layout) -> int:
    """Evaluation batch per GPU."""
    if stage.kind == "ppo":
        return layout.micro
    if not stage.settings.get("evaluate.data"):
        return 0
    batch = stage.settings.get("evaluate.batch")
    return (batch if isinstance(batch, int) else layout.micro) * (2 if stage.kind in PAIRS else 1)


_OPTIMIZERS = {
    "": "adamw_fused", "adamw": "adamw_fused", "adamw_torch_fused": "adamw_fused", "adamw_torch": "adamw",
    "adamw_8bit": "adamw8bit", "adamw_bnb_8bit": "adamw8bit", "adamw_torch_8bit": "adamw8bit", "adamw_torch_4bit": "adamw4bit",
    "paged_adamw_32bit": "paged_adamw", "paged_adamw_8bit": "paged_adamw8bit", "paged_lion_32bit": "paged_lion",
    "paged_lion_8bit": "paged_lion8bit", "lion_32bit": "lion", "lion_8bit": "lion8bit", "sgd": "sgd", "adagrad": "adagrad",
    "rmsprop": "rmsprop", "adafactor": "adafactor", "lomo": "lomo", "adalomo": "lomo", "galore": "galore", "apollo": "apollo",
    "badam": "badam", "muon": "muon", "adam_mini": "adam_mini",
}  # fmt: skip


def _strategy(name: str) -> str:
    """The estimator's name of a strategy: DeepSpeed stage 0 is data parallel; both versions of FSDP shard alike."""
    if name in FSDP:
        return "fsdp"
    return {"": "single", "zero0": "ddp", "megatron": "zero1"}.get(name, name)


_MAPS = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "gate_proj": "gate", "up_proj": "up",
         "down_proj": "down"}  # fmt: skip


def _targets(stage: Stage, block: str) -> tuple[str, ...]:
    """The adapted matrices by the estimator's names; unknown names are ignored."""
    asked = stage.settings.names(f"{block}.targets") or ["all"]
    return tuple(_MAPS.values()) if "all" in asked else tuple(_MAPS[item] for item in asked if item in _MAPS)


def card_memory(stage: Stage) -> float:
    """Memory in GB of the GPU in the recipe, as in `h100(80GB)`; 0 if not set."""
    gpu = stage.settings.get("hardware.gpu")
    size = gpu.options.get("memory") if isinstance(gpu, Term) else None
    number = getattr(size, "number", size)
    return float(number) / 1e9 if isinstance(number, int | float) else 0.0
