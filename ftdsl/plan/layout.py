"""What `auto` may decide about a training stage, and what a stage laid out so costs: the bridge to ftdsl.estimate.

How LLaMA-Factory holds a model is known here in one place (llamafactory/model/adapter.py, `init_adapter`): trained weights are
fp32 unless `pure_bf16` or ZeRO-3; a frozen base is in the dtype of compute; DeepSpeed keeps 16-bit weights with fp32 copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.estimate.architecture import Architecture, NotModelledError, known
from ftdsl.estimate.setup import Setup
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import World
from ftdsl.recipe.recipe import Lineage, Recipe, Stage
from ftdsl.recipe.shape import PAIRS
from ftdsl.record import value

ZERO = ("zero0", "zero1", "zero2", "zero3")
FSDP = ("fsdp1", "fsdp2")


@value
class Layout:
    """The choices that decide memory and speed, in the recipe's own words.

    bits: how the base is loaded (4, 8; 0: not quantised); strategy: "" for one process; offload: none, optimizer, params
    (which takes the optimizer along); checkpointing: none or full; micro: sequences of one card at once.
    """

    method: str
    bits: int
    precision: str
    strategy: str
    offload: str
    checkpointing: str
    micro: int


def architecture_of(stage: Stage, recipe: Recipe) -> Architecture:
    """Sizes of the model a stage starts from, through the stages before it. Raises: NotModelledError."""
    start = stage.start
    if start is None:
        raise NotModelledError("the stage has no model")
    base = _bottom(start, recipe)
    options = base.options if isinstance(base, Term) else {}
    if isinstance(base, Term) and base.name == "scratch" and options.get("like") is None:
        return _scratch(options)
    like = options.get("like")
    for place in (like.options.get("id") if isinstance(like, Term) else like, options.get("id")):
        if isinstance(place, str) and (found := known(place)):
            return found
    name = options.get("id") or options.get("path") or "this model"
    raise NotModelledError(
        f'the sizes of {name} are not in the catalogue; `like = "org/name"` names a model of its sizes'
    )


def _bottom(lineage: Lineage, recipe: Recipe) -> Any:
    """The model at the bottom: results of stages lead to what those stages start from."""
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
    return Architecture(hidden, layers, heads, heads, 4 * hidden, vocab, name="scratch", family=family)


def setup_of(stage: Stage, world: World, layout: Layout, architecture: Architecture) -> Setup:
    """The set-up an estimate is made of. Raises: NotModelledError for what there is no physics for."""
    get, name = stage.settings.get, stage.settings.name
    adapts = layout.method == "lora"
    if layout.method not in ("full", "lora"):
        raise NotModelledError(f"`{layout.method}` is not modelled")
    if name("optim.name") not in _OPTIMIZERS:
        raise NotModelledError(f"the memory of the optimizer `{name('optim.name')}` is not modelled")
    if layout.bits not in (0, 4, 8):
        raise NotModelledError(f"a base in {layout.bits} bits is not modelled")
    half = "fp16" if layout.precision == "fp16" else "bf16"
    pure, plain = layout.precision == "pure_bf16", layout.precision == "fp32"
    zero = layout.strategy in ZERO
    if adapts:
        base, trained = ("fp32" if plain else half), ("bf16" if pure else "fp32")
    else:
        base = trained = "bf16" if pure else "fp32"
    master = zero and not plain and not (adapts and layout.bits)
    if master:
        base = trained = half
    kernels = {str(getattr(item, "name", item)) for item in stage.settings.items("kernels")}
    liger = "liger" in kernels
    rank = get("lora.rank")
    return Setup(
        architecture,
        method="lora" if adapts else "full",
        lora_rank=int(rank) if adapts and isinstance(rank, int) else 0,
        lora_targets=_targets(stage) if adapts else (),
        lora_dropout=bool(adapts and getattr(get("lora.dropout"), "number", 0)),
        quant={0: "none", 4: "nf4-dq" if get("quantize.double") is not False else "nf4", 8: "int8"}[layout.bits],
        base_dtype=base,
        train_dtype=trained,
        master=master,
        autocast=not pure and not plain,
        optimizer=_OPTIMIZERS[name("optim.name")],
        seq_len=int(get("max_len") or 2048),
        micro_batch=layout.micro * (2 if stage.kind in PAIRS else 1),
        checkpointing=layout.checkpointing,
        attention="eager" if name("attention") == "eager" else "flash",
        loss="flce" if liger else "hf_fp32_new",
        norms="fused" if liger else "eager",
        strategy=_strategy(layout.strategy),
        offload={"optimizer": "optim"}.get(layout.offload, layout.offload),
        data=world.data,
        tensor=world.tensor,
        pipeline=world.pipeline,
        context=world.context,
        card=world.gpu,
        card_memory=card_memory(stage),
        framework="megatron" if layout.strategy == "megatron" else "hf",
    )


_OPTIMIZERS = {
    "": "adamw_fused", "adamw": "adamw_fused", "adamw_torch_fused": "adamw_fused", "adamw_torch": "adamw",
    "adamw_8bit": "adamw8bit", "adamw_bnb_8bit": "adamw8bit", "paged_adamw_32bit": "paged_adamw", "sgd": "sgd",
    "paged_adamw_8bit": "paged_adamw8bit",
}  # fmt: skip


def _strategy(name: str) -> str:
    """The estimate's word: DeepSpeed's stage 0 is data parallel, both FSDPs shard alike."""
    if name in FSDP:
        return "fsdp"
    return {"": "single", "zero0": "ddp", "megatron": "ddp"}.get(name, name)


_MAPS = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "gate_proj": "gate", "up_proj": "up",
         "down_proj": "down"}  # fmt: skip


def _targets(stage: Stage) -> tuple[str, ...]:
    """The adapted maps by the estimate's names; names it does not know count as nothing."""
    asked = [str(getattr(item, "name", item)) for item in stage.settings.items("lora.targets")] or ["all"]
    return tuple(_MAPS.values()) if "all" in asked else tuple(_MAPS[item] for item in asked if item in _MAPS)


def card_memory(stage: Stage) -> float:
    """GiB of the card the recipe names: `h100(80GB)`; 0 where it names none."""
    gpu = stage.settings.get("hardware.gpu")
    size = gpu.options.get("memory") if isinstance(gpu, Term) else None
    number = getattr(size, "number", size)
    return float(number) / 1e9 if isinstance(number, int | float) else 0.0
