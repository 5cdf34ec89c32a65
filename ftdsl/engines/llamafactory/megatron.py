"""3D parallelism with LLaMA-Factory's Megatron path (`USE_MCA=1`, the mcore adapter of github.com/alibaba/ROLL).

The adapter reads few of LLaMA-Factory's parameters and silently ignores the others: a key that it does not read is an error
here. Its own limits, which it reports only on the GPUs or not at all, are checks of the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ftdsl import catalog
from ftdsl.diagnostics.suggest import closest
from ftdsl.engines.shared.parallel.common import megatron, offloads, shape_of
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Term

SUPPORTED_KEYS = frozenset(
    "model template system tools thinking keep_thinking data mix limit max_len packing duration precision tf32 seed "
    "deterministic resume to after settings train_on trainable aux_loss full name engine run gate "
    "optim.lr optim.weight_decay optim.betas optim.eps optim.clip optim.schedule optim.warmup optim.min_lr "
    "optim.name loss beta label_smoothing memory.checkpointing "
    "evaluate.data evaluate.every evaluate.batch evaluate.metrics".split()
)
SUPPORTED_BLOCKS = ("hardware", "budget", "launch", "env", "batch", "parallel", "loader", "save", "track", "guard", "media",
                "llamafactory", "megatron", "full")  # fmt: skip
SCHEDULES = ("linear", "constant", "constant_with_warmup", "inverse_sqrt", "cosine")
"""Schedules of the adapter (trainer/utils.py, get_megatron_lr_scheduler)."""

MODELS = ("qwen2", "qwen3", "llama", "mistral")
"""Architectures of `scratch()` that the engine's Megatron path supports (extras/constants.py, MCA_SUPPORTED_MODELS)."""

PAD = 64
"""Batches are padded to a multiple of this (train/mca/workflow.py)."""


def params(context: StageContext) -> dict[str, Any]:
    """The adapter's parameters; {} without Megatron."""
    if not megatron(context):
        return {}
    world, get = context.planned.world, context.get
    adapter_params: dict[str, Any] = {
        "tensor_model_parallel_size": world.tensor,
        "pipeline_model_parallel_size": world.pipeline,
        "context_parallel_size": world.context,
        "expert_model_parallel_size": _count(get("parallel.expert")),
        "sequence_parallel": sequence(context),
        "use_distributed_optimizer": world.data > 1,
        "save_hf_model": True,
    }
    granularity = context.name("memory.checkpointing")
    if granularity in ("full", "selective"):
        adapter_params["recompute_granularity"] = granularity
    if "optimizer" in offloads(context):
        adapter_params |= {"optimizer_cpu_offload": True, "optimizer_offload_fraction": 1.0}
    if isinstance(weight := get("aux_loss"), int | float):
        adapter_params["moe_aux_loss_coeff"] = weight
    return adapter_params | context.stage.settings.inside("megatron")


def filter_params(context: StageContext, parameters: dict[str, Any]) -> dict[str, Any]:
    """The stage's parameters for the adapter: without those that its parser lacks, and with its own."""
    if not megatron(context):
        return parameters
    unknown = (
        "overwrite_output_dir",
        "disable_gradient_checkpointing",
        "use_reentrant_gc",
        "moe_aux_loss_coef",
        "optim",
    )
    kept = {name: value for name, value in parameters.items() if name not in unknown}
    floor = kept.get("lr_scheduler_kwargs", {}).get("min_lr_rate")
    if floor is not None:  # the adapter reads only an absolute rate, and would use 0 for a share
        kept["lr_scheduler_kwargs"] = {"min_lr": floor * float(context.get("optim.lr"))}
    return kept | params(context)


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 1


def sequence(context: StageContext) -> bool:
    """Whether norms and dropout are split along the sequence: as set, else wherever tensors are split."""
    value = context.get("parallel.sequence")
    return bool(value) if isinstance(value, bool) else context.planned.world.tensor > 1


# --- limits


def check(context: StageContext) -> None:
    """What the engine's Megatron path cannot do."""
    if not megatron(context):
        return
    if context.option("parallel.strategy", "bridge"):
        text = "LLaMA-Factory 0.9.5 has no Megatron Bridge: its Megatron path is the mcore adapter"
        context.refuse("parallel.strategy", text, "write `strategy = megatron`, with `full { }`")
        return
    if not context.planned.world.gpu:
        context.refuse("parallel.strategy", "`megatron` needs GPUs", "write `hardware { gpu = … }`")
    if context.stage.kind not in ("pretrain", "sft", "dpo"):
        text = f"LLaMA-Factory's Megatron path trains `pretrain`, `sft` and `dpo`, not `{context.stage.kind}`"
        context.refuse("parallel.strategy", text, "use `zero3`")
    if context.planned.method != "full":
        # its parser accepts `finetuning_type: lora`, and nothing reads it: every weight would be trained
        where = context.planned.method if context.stage.settings.has(context.planned.method) else "parallel.strategy"
        text = f"LLaMA-Factory's Megatron path ignores `{context.planned.method}` and trains all weights"
        context.refuse(where, text, "write `full { }`, or `strategy = zero3`")
    _ignored_keys(context)
    _choices(context)
    world = context.planned.world
    for key, text, help in _limits(context) if world.size % world.split == 0 else ():
        span = context.stage.spans.get(key) or context.stage.spans.get("parallel", context.stage.span)
        context.session.sink.error("FT430", text, span, help=help)


def _ignored_keys(context: StageContext) -> None:
    """Keys and values that the adapter would ignore."""
    for key in context.stage.origins:
        if not context.is_explicit(key) or key in SUPPORTED_KEYS or key.partition(".")[0] in SUPPORTED_BLOCKS:
            continue
        if context.get(key) in (None, False, []) or context.name(key) in ("auto", "none", context.planned.method):
            continue
        if not key.startswith(("lora.", "freeze.", "oft.")):
            context.refuse(key, f"`{key}` has no effect in LLaMA-Factory's Megatron path", "drop it, or use `zero3`")
    name = context.name("optim.name")
    if name not in ("", "auto", "adamw", "adamw_torch", "adamw_torch_fused"):
        context.refuse("optim.name", f"Megatron has no optimizer `{name}`", "drop it: Megatron uses AdamW")
    schedule = context.name("optim.schedule")
    if schedule and schedule not in SCHEDULES:
        context.refuse("optim.schedule", f"Megatron has no schedule `{schedule}`", f"use {', '.join(SCHEDULES)}")
    if context.planned.precision not in ("bf16", "fp16", "fp32"):
        text = f"Megatron has `{context.planned.precision}` only as a parameter of its own"
        context.refuse("precision", text, 'write `precision = bf16` and `megatron { fp8 = "hybrid" }`')
    if context.stage.kind == "dpo" and context.name("loss") not in ("", "sigmoid", "orpo"):
        context.refuse("loss", f"Megatron has no loss `{context.name('loss')}`", "use `sigmoid` or `orpo`")
    metrics = {getattr(metric, "name", metric) for metric in context.get("evaluate.metrics") or ()}
    if metrics - {"loss"}:
        context.refuse("evaluate.metrics", "`megatron` measures only the loss", "write `metrics = [loss]`")
    if context.stage.start and context.stage.start.adapters:
        context.refuse("model", "`megatron` cannot start from an adapter", "put a `merge` stage between")


def _choices(context: StageContext) -> None:
    """Values of the passthrough block that the adapter's parser would refuse."""
    schema = catalog.passthrough_schema("megatron")
    for name, value in context.stage.settings.inside("megatron").items():
        text = value.name if isinstance(value, Term) else value
        choices = schema.get(name, {}).get("choices")
        if choices and text not in choices:
            guess = closest(str(text), choices)
            help = f"did you mean `{guess}`?" if guess else f"one of {', '.join(choices)}"
            context.refuse(f"megatron.{name}", f"`{name}` cannot be `{text}`", help)


def _limits(context: StageContext) -> Iterator[tuple[str, str, str]]:
    """(key, message, help): sizes that do not divide, and parameters that need one another."""
    world, shape = context.planned.world, shape_of(context)
    passthrough = context.stage.settings.inside("megatron")
    chunks = _count(passthrough.get("virtual_pipeline_model_parallel_size"))
    experts, expert = shape.get("experts"), _count(context.get("parallel.expert"))
    for name, what in (("heads", "attention heads"), ("kv_heads", "key-value heads")):
        if (size := shape.get(name)) and size % world.tensor:
            yield (
                "parallel.tensor",
                f"{size} {what} cannot be split over {world.tensor} tensor ranks",
                f"use a divisor of {size}",
            )
    layers = shape.get("layers", 0) + sum(
        bool(passthrough.get(f"account_for_{end}_in_pipeline_split")) for end in ("embedding", "loss")
    )
    if "layers" in shape and layers % (world.pipeline * chunks) and "pipeline_model_parallel_layout" not in passthrough:
        factors = f"{world.pipeline} pipeline" + (f" x {chunks} virtual" if chunks > 1 else "")
        yield (
            "parallel.pipeline",
            f"{layers} layers cannot be split over {factors} stages",
            f"use a divisor of {layers}",
        )
    if chunks > 1 and world.pipeline == 1:
        yield (
            "megatron.virtual_pipeline_model_parallel_size",
            "virtual stages need a pipeline",
            "write `parallel { pipeline = 2 }`",
        )
    batch = context.planned.batch
    if chunks > 1 and batch and batch.accumulate % world.pipeline:
        text = f"{batch.accumulate} micro-batches cannot be interleaved over {world.pipeline} pipeline stages"
        yield "batch.accumulate", text, f"make `accumulate` a multiple of {world.pipeline}"
    if (world.data * world.context) % expert:
        pass  # the world equation says so
    elif experts == 0 and expert > 1:
        yield "parallel.expert", "the model has no experts to distribute", "drop `expert`"
    elif experts and experts % expert:
        yield (
            "parallel.expert",
            f"{experts} experts cannot be distributed over {expert} ranks",
            f"use a divisor of {experts}",
        )
    yield from _sequence_limits(context)
    yield from _switches(passthrough)


def _sequence_limits(context: StageContext) -> Iterator[tuple[str, str, str]]:
    world = context.planned.world
    if sequence(context) and world.tensor == 1:
        yield (
            "parallel.sequence",
            "`sequence` splits over tensor ranks, and there is only one",
            "write `tensor = 2`, or drop it",
        )
    if world.tensor > 1 and _count(context.get("parallel.expert")) > 1 and not sequence(context):
        yield "parallel.sequence", "`expert` together with `tensor` needs `sequence = true`", "drop `sequence = false`"
    parts = math.lcm(world.tensor if sequence(context) else 1, 2 * world.context if world.context > 1 else 1)
    length = context.get("max_len")
    if isinstance(length, int) and (length % parts or PAD % parts):
        text = f"sequences of {length} tokens, padded to multiples of {PAD}, cannot be cut into {parts} equal parts"
        yield (
            "max_len",
            text,
            f"make `max_len` a multiple of {parts}, and `tensor` and `context` no larger than it allows",
        )


def _switches(passthrough: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if passthrough.get("overlap_param_gather") and not (
        passthrough.get("overlap_grad_reduce") and passthrough.get("use_distributed_optimizer", True)
    ):
        help = "write `overlap_grad_reduce = true`, and leave `use_distributed_optimizer` on"
        yield "megatron.overlap_param_gather", "it needs overlapped reduction of gradients", help
    dispatcher = passthrough.get("moe_token_dispatcher_type", "allgather")
    if passthrough.get("variable_seq_lengths") and getattr(dispatcher, "name", dispatcher) != "alltoall":
        help = "write `moe_token_dispatcher_type = alltoall`"
        yield "megatron.variable_seq_lengths", "variable sequence lengths need the `alltoall` dispatcher", help
    if passthrough.get("recompute_method") is not None and "recompute_num_layers" not in passthrough:
        yield (
            "megatron.recompute_method",
            "`recompute_method` needs a number of layers",
            "write `recompute_num_layers = 1`",
        )
