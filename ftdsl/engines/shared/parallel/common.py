"""What the parts of this package need to know of a stage: its sharding, its launcher, what is offloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdsl.engines.jobs import Raw
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.estimate.architecture import known
from ftdsl.language.values import Term

PYTHON = Raw('"$FT_PYTHON"')
ZERO = ("zero0", "zero1", "zero2", "zero3")
FSDP = ("fsdp1", "fsdp2")


def zero_stage(context: StageContext) -> int | None:
    """0 to 3, or None without DeepSpeed."""
    strategy = context.planned.strategy
    return int(strategy[-1]) if strategy in ZERO else None


def fsdp_version(context: StageContext) -> int | None:
    """1 or 2 where accelerate shards the model; None where the engine does so itself."""
    strategy = context.planned.strategy
    return int(strategy[-1]) if strategy in FSDP and not loaded_in_parts(context) else None


def loaded_in_parts(context: StageContext) -> bool:
    """Whether the engine shards the model and splits its tensors itself while it loads it: each rank reads its own part."""
    return context.planned.world.tensor > 1 and context.planned.strategy in context.engine.splits_tensors


def megatron(context: StageContext) -> bool:
    return context.planned.strategy == "megatron"


def launcher(context: StageContext) -> str:
    """What starts the processes; `auto` is accelerate for FSDP, otherwise torchrun."""
    name = context.name("launch.with")
    return name if name not in ("", "auto") else "accelerate" if fsdp_version(context) else "torchrun"


def distributed(context: StageContext) -> bool:
    """Whether a launcher is needed: DeepSpeed and FSDP need one even for one process."""
    return context.planned.world.size > 1 or context.planned.strategy not in ("", "ddp")


def offloads(context: StageContext) -> dict[str, str]:
    """What is offloaded (`optimizer`, `params`) -> where to: a folder on NVMe, or "" for main memory."""
    items = [item for item in context.stage.settings.items("parallel.offload") if isinstance(item, Term)]
    return {item.name: str(item.options.get("nvme", "")) for item in items if item.name not in ("none", "auto")}


def shape_of(context: StageContext) -> Mapping[str, int]:
    """The known sizes of the model: hidden, layers, heads, kv_heads, experts (0: none)."""
    base = context.stage.start.base if context.stage.start else None
    if not isinstance(base, Term):
        return {}
    names = ("hidden", "layers", "heads", "kv_heads", "experts")
    like = base.options.get("like") or base.options.get("id")
    model = known(str(like.options.get("id") if isinstance(like, Term) else like)) if like else None
    sizes = {name: getattr(model, name) for name in names} if model else {}
    if base.name != "scratch":
        return sizes
    written = {name: size for name in names if isinstance(size := base.options.get(name), int)}
    return {**sizes, "experts": 0, **written} | ({"kv_heads": written["heads"]} if "heads" in written else {})


def equation(context: StageContext) -> tuple[str, ...]:
    """The batch equation and the world equation, for headers."""
    batch, world = context.planned.batch, context.planned.world
    lines = list(context.planned.equations)
    if world.size > 1:
        lines.append(str(world))
    if world.elastic and batch:
        least = world.processes_per_node * world.least_nodes // world.split
        smallest = batch.micro * batch.accumulate * least
        lines.append(
            f"elastic, {world.least_nodes} to {world.nodes} nodes: the batch is {smallest} with {world.least_nodes}"
        )
    return tuple(lines)


def plain_number(value: Any) -> float:
    """0 for `none`, as DeepSpeed and transformers expect."""
    return float(value) if isinstance(value, int | float) else 0.0
