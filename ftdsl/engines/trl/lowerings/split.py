"""Tensor x FSDP 2 by transformers itself: each rank reads its part of the weights (`from_pretrained(distributed_config=…)`)."""

from __future__ import annotations

from ftdsl.engines.shared.parallel.common import loaded_in_parts, offloads
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.estimate.architecture import NotModelledError
from ftdsl.plan.layout import architecture_of


def split(context: StageContext) -> Params:
    """Fields of transformers' DistributedConfig; its Trainer takes such a model only where it saves no optimizer
    (transformers/trainer.py:634, 5.23.0)."""
    if not loaded_in_parts(context):
        return {}
    _refuse(context)
    world, copies = context.planned.world, context.get("parallel.replicate")
    copies = copies if isinstance(copies, int) else 1
    sizes = {"tp_size": world.tensor, "fsdp_size": world.data // copies}
    if copies > 1:
        sizes["dp_replicate_size"] = copies
    more = {"fsdp_cpu_offload": True} if offloads(context) else {}
    return {"distributed_config": {**sizes, **more}, "save_only_model": True}


def _refuse(context: StageContext) -> None:
    plain = "drop `tensor`"
    if context.stage.kind not in ("sft", "pretrain"):
        why = f"a model that is split while it is loaded trains in `sft` and `pretrain` stages, not in `{context.stage.kind}`"
        context.refuse("parallel.tensor", why, plain)
    if context.planned.method != "full":
        why = f"transformers splits tensors of whole models, and `{context.planned.method}` adds some that it does not split"
        context.refuse("parallel.tensor", why, f"write `full {{ }}`, or {plain}")
    batch = context.planned.batch
    if batch and batch.accumulate > 1 and _sums_again(context):
        why = (
            "with split tensors transformers 5.23 adds up the gradients of query and key norms anew at each micro-batch: "
            f"over {batch.accumulate} of them they come out too large"
        )
        help = f"write `batch {{ micro = {batch.micro * batch.accumulate} }}` without `accumulate`, or {plain}"
        context.refuse("batch.accumulate", why, help)
    why = "transformers saves no optimizer of a model that is split while it is loaded"
    for key in ("resume", "launch.retries", "save.best_by"):
        if context.get(key) and context.is_explicit(key):
            context.refuse(key, why, f"drop it, or {plain}")
    if context.get("save.resumable") is True and context.is_explicit("save.resumable"):
        context.refuse("save.resumable", why, f"write `resumable = false`, or {plain}")


def _sums_again(context: StageContext) -> bool:
    """Whether the model has norms of single heads, or may have some (transformers/distributed/tensor_parallel.py,
    ReplicatedWithGradAllReduce: a hook all-reduces the accumulated gradient after each backward pass)."""
    try:
        return architecture_of(context.stage, context.plan.recipe, context.session.files).qk_norm
    except NotModelledError:
        return True
