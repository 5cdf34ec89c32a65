"""`ds_config.json`: what DeepSpeed shards and offloads, in numbers wherever they are known.

`"auto"` is written only where Hugging Face must fill in a value: bucket sizes that depend on an unknown width (hidden squared
and similar, transformers/integrations/deepspeed.py:199). `train_batch_size` is never written: ZeRO-3 reads the file while the
model is loaded, before DeepSpeed knows the number of ranks, and would refuse the product.
The YAML configures Hugging Face's optimizer and schedule, so this file has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from ftdsl.engines.jobs import Document
from ftdsl.engines.shared.parallel.common import offloads, plain_number, shape_of, zero_stage
from ftdsl.engines.shared.parallel.config_lines import ConfigLine, document, with_passthrough
from ftdsl.engines.shared.stage_context import StageContext

NAME = "ds_config.json"
AIO = {
    "block_size": 1048576,
    "queue_depth": 8,
    "intra_op_parallelism": 1,
    "single_submit": False,
    "overlap_events": True,
}
"""DeepSpeed's own defaults (runtime/swap_tensor/constants.py), written out so that they can be tuned to the disk."""

GATHER = "without it the run succeeds and writes no model"


def ds_config(context: StageContext) -> Document | None:
    """The DeepSpeed configuration of a ZeRO stage; None without ZeRO."""
    stage = zero_stage(context)
    if stage is None or context.planned.batch is None:
        return None
    lines = [*_batch(context), *_precision(context), *_zero(context, stage), *_offload(context), *_tensor(context)]
    written = context.stage.settings.inside("deepspeed")
    return document(f"{context.folder}/{NAME}", "json", with_passthrough(lines, "deepspeed", written))


def _batch(context: StageContext) -> Iterator[ConfigLine]:
    batch = context.planned.batch
    assert batch is not None
    yield ConfigLine("train_micro_batch_size_per_gpu", batch.micro, "batch.micro")
    yield ConfigLine("gradient_accumulation_steps", batch.accumulate, "batch.accumulate")
    yield ConfigLine("gradient_clipping", plain_number(context.get("optim.clip")), "optim.clip")
    yield ConfigLine(
        "zero_allow_untested_optimizer", True, "optimizers of transformers and bitsandbytes are not DeepSpeed's"
    )


def _precision(context: StageContext) -> Iterator[ConfigLine]:
    """Both sections are always written: Hugging Face checks them against the YAML."""
    precision = context.planned.precision
    yield ConfigLine("bf16.enabled", precision in ("bf16", "pure_bf16", "fp8"), "precision")
    yield ConfigLine("fp16.enabled", precision == "fp16", "precision")
    if precision == "fp16":
        scale = "dynamic loss scale: starts at 2^16 and halves on overflow"
        yield ConfigLine("fp16.loss_scale", 0, scale)
        yield ConfigLine("fp16.initial_scale_power", 16, scale)
        yield ConfigLine("fp16.loss_scale_window", 1000, scale)
        yield ConfigLine("fp16.hysteresis", 2, scale)
        yield ConfigLine("fp16.min_loss_scale", 1, scale)


def _zero(context: StageContext, stage: int) -> Iterator[ConfigLine]:
    yield ConfigLine("zero_optimization.stage", stage, "parallel.strategy")
    if stage == 0:
        return
    # AutoTP splits the gradients itself, and does not support overlapping them with ZeRO's reduction.
    yield ConfigLine(
        "zero_optimization.overlap_comm",
        context.planned.world.tensor == 1,
        "reduces gradients while others are computed",
    )
    yield ConfigLine("zero_optimization.contiguous_gradients", True, "avoids fragmented memory in the backward pass")
    hidden = shape_of(context).get("hidden")
    buckets = {"reduce_bucket_size": hidden and hidden * hidden}
    if stage == 3:
        buckets["stage3_prefetch_bucket_size"] = hidden and int(0.9 * hidden * hidden)
        buckets["stage3_param_persistence_threshold"] = hidden and 10 * hidden
    why = f"for a hidden size of {hidden}" if hidden else "Hugging Face fills it in from the hidden size"
    for name, size in buckets.items():
        yield ConfigLine(f"zero_optimization.{name}", size or "auto", why)
    if stage == 3:
        yield ConfigLine("zero_optimization.stage3_gather_16bit_weights_on_model_save", True, GATHER)


def _offload(context: StageContext) -> Iterator[ConfigLine]:
    moved = offloads(context)
    for name, section in (("optimizer", "offload_optimizer"), ("params", "offload_param")):
        if name not in moved:
            continue
        prefix = f"zero_optimization.{section}"
        yield ConfigLine(f"{prefix}.device", "nvme" if moved[name] else "cpu", "parallel.offload")
        if moved[name]:
            yield ConfigLine(f"{prefix}.nvme_path", moved[name], "parallel.offload")
        pinned = bool(context.planned.world.gpu)
        yield ConfigLine(
            f"{prefix}.pin_memory",
            pinned,
            "copies overlap with computation" if pinned else "there is no GPU to copy to",
        )
    if any(moved.values()):
        for key, value in AIO.items():
            yield ConfigLine(f"aio.{key}", value, "DeepSpeed's default; measure the disk with ds_nvme_tune")


def _tensor(context: StageContext) -> Iterator[ConfigLine]:
    if context.planned.world.tensor > 1:
        yield ConfigLine("tensor_parallel.autotp_size", context.planned.world.tensor, "parallel.tensor")
        yield ConfigLine("zero_optimization.gather_16bit_weights_on_model_save", True, GATHER)
