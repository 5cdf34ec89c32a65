"""3D parallelism through LLaMA-Factory's Megatron path (`USE_MCA=1`, the mcore adapter of github.com/alibaba/ROLL).

The adapter reads few of LLaMA-Factory's parameters, and says nothing about the others: a word it has no ear for is
refused here. Its own limits, which it finds only on the cards or not at all, are rules over the recipe.
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
"""Curves the adapter's own scheduler draws (trainer/utils.py, get_megatron_lr_scheduler)."""

MODELS = ("qwen2", "qwen3", "llama", "mistral")
"""Architectures of `scratch()` among those the engine's Megatron path takes (extras/constants.py, MCA_SUPPORTED_MODELS)."""

PAD = 64
"""Batches are padded to a multiple of this (train/mca/workflow.py)."""


def params(context: StageContext) -> dict[str, Any]:
    """The adapter's parameters; {} without Megatron."""
    if not megatron(context):
        return {}
    world, get = context.planned.world, context.get
    found: dict[str, Any] = {
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
        found["recompute_granularity"] = granularity
    if "optimizer" in offloads(context):
        found |= {"optimizer_cpu_offload": True, "optimizer_offload_fraction": 1.0}
    if isinstance(weight := get("aux_loss"), int | float):
        found["moe_aux_loss_coeff"] = weight
    return found | context.stage.settings.inside("megatron")


def filter_params(context: StageContext, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the stage as the adapter wants them: without those its parser has not, and its own names."""
    if not megatron(context):
        return parameters
    unknown = (
        "overwrite_output_dir",
        "disable_gradient_checkpointing",
        "use_reentrant_gc",
        "moe_aux_loss_coef",
        "optim",
    )
    found = {name: value for name, value in parameters.items() if name not in unknown}
    floor = found.get("lr_scheduler_kwargs", {}).get("min_lr_rate")
    if floor is not None:  # the adapter reads the rate itself, and would take 0 for a share
        found["lr_scheduler_kwargs"] = {"min_lr": floor * float(context.get("optim.lr"))}
    return found | params(context)


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 1


def sequence(context: StageContext) -> bool:
    """Norms and dropout split along the sequence: as said, else wherever tensors are split."""
    said = context.get("parallel.sequence")
    return bool(said) if isinstance(said, bool) else context.planned.world.tensor > 1


# --- limits


def check(context: StageContext) -> None:
    """What the engine's Megatron path cannot do."""
    if not megatron(context):
        return
    if context.option("parallel.strategy", "bridge"):
        text = "no Megatron Bridge in LLaMA-Factory 0.9.5: its Megatron path is the mcore adapter"
        context.refuse("parallel.strategy", text, "write `strategy = megatron`, with `full { }`")
        return
    if not context.planned.world.gpu:
        context.refuse("parallel.strategy", "`megatron` needs cards", "write `hardware { gpu = … }`")
    if context.stage.kind not in ("pretrain", "sft", "dpo"):
        text = f"LLaMA-Factory's Megatron path trains `pretrain`, `sft` and `dpo`, not `{context.stage.kind}`"
        context.refuse("parallel.strategy", text, "use `zero3`")
    if context.planned.method != "full":
        # its parser takes `finetuning_type: lora` and nothing ever reads it: every weight would be trained
        where = context.planned.method if context.stage.settings.has(context.planned.method) else "parallel.strategy"
        text = (
            f"LLaMA-Factory's Megatron path trains every weight; it would take `{context.planned.method}` and not do it"
        )
        context.refuse(where, text, "write `full { }`, or `strategy = zero3`")
    _words(context)
    _choices(context)
    world = context.planned.world
    for key, text, help in _limits(context) if world.size % world.split == 0 else ():
        span = context.stage.spans.get(key) or context.stage.spans.get("parallel", context.stage.span)
        context.session.sink.error("FT430", text, span, help=help)


def _words(context: StageContext) -> None:
    """Words the adapter would not hear."""
    for key in context.stage.origins:
        if not context.is_explicit(key) or key in SUPPORTED_KEYS or key.partition(".")[0] in SUPPORTED_BLOCKS:
            continue
        if context.get(key) in (None, False, []) or context.name(key) in ("auto", "none", context.planned.method):
            continue
        if not key.startswith(("lora.", "freeze.", "oft.")):
            context.refuse(key, f"`{key}` has no effect in LLaMA-Factory's Megatron path", "drop it, or use `zero3`")
    name = context.name("optim.name")
    if name not in ("", "auto", "adamw", "adamw_torch", "adamw_torch_fused"):
        context.refuse("optim.name", f"`{name}` is none of Megatron's own optimizers", "drop it: it is AdamW")
    schedule = context.name("optim.schedule")
    if schedule and schedule not in SCHEDULES:
        context.refuse("optim.schedule", f"`{schedule}` is no curve that Megatron draws", f"use {', '.join(SCHEDULES)}")
    if context.planned.precision not in ("bf16", "fp16", "fp32"):
        text = f"`{context.planned.precision}` is said in Megatron's own words"
        context.refuse("precision", text, 'write `precision = bf16` and `megatron { fp8 = "hybrid" }`')
    if context.stage.kind == "dpo" and context.name("loss") not in ("", "sigmoid", "orpo"):
        context.refuse("loss", f"`{context.name('loss')}` is no loss of Megatron's", "use `sigmoid` or `orpo`")
    metrics = {getattr(metric, "name", metric) for metric in context.get("evaluate.metrics") or ()}
    if metrics - {"loss"}:
        context.refuse("evaluate.metrics", "`megatron` measures the loss only", "write `metrics = [loss]`")
    if context.stage.start and context.stage.start.adapters:
        context.refuse("model", "`megatron` cannot start from an adapter", "put a `merge` stage between")


def _choices(context: StageContext) -> None:
    """Values of the hatch that the adapter's parser would refuse."""
    known = catalog.passthrough_schema("megatron")
    for name, value in context.stage.settings.inside("megatron").items():
        text = value.name if isinstance(value, Term) else value
        choices = known.get(name, {}).get("choices")
        if choices and text not in choices:
            guess = closest(str(text), choices)
            help = f"did you mean `{guess}`?" if guess else f"one of {', '.join(choices)}"
            context.refuse(f"megatron.{name}", f"`{name}` cannot be `{text}`", help)


def _limits(context: StageContext) -> Iterator[tuple[str, str, str]]:
    """Key, what is wrong, what to do: sizes that do not divide, and switches that need one another."""
    world, shape = context.planned.world, shape_of(context)
    hatch = context.stage.settings.inside("megatron")
    chunks = _count(hatch.get("virtual_pipeline_model_parallel_size"))
    experts, expert = shape.get("experts"), _count(context.get("parallel.expert"))
    for name, what in (("heads", "attention heads"), ("kv_heads", "key-value heads")):
        if (size := shape.get(name)) and size % world.tensor:
            yield (
                "parallel.tensor",
                f"{size} {what} cannot be split over {world.tensor} tensor ranks",
                f"use a divisor of {size}",
            )
    layers = shape.get("layers", 0) + sum(
        bool(hatch.get(f"account_for_{end}_in_pipeline_split")) for end in ("embedding", "loss")
    )
    if "layers" in shape and layers % (world.pipeline * chunks) and "pipeline_model_parallel_layout" not in hatch:
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
        yield "parallel.expert", "the model has no experts to spread", "drop `expert`"
    elif experts and experts % expert:
        yield (
            "parallel.expert",
            f"{experts} experts cannot be spread over {expert} ranks",
            f"use a divisor of {experts}",
        )
    yield from _sequence_limits(context)
    yield from _switches(hatch)


def _sequence_limits(context: StageContext) -> Iterator[tuple[str, str, str]]:
    world = context.planned.world
    if sequence(context) and world.tensor == 1:
        yield (
            "parallel.sequence",
            "a sequence is split over tensor ranks, and there is one",
            "write `tensor = 2`, or drop it",
        )
    if world.tensor > 1 and _count(context.get("parallel.expert")) > 1 and not sequence(context):
        yield "parallel.sequence", "experts and tensors split at once need `sequence = true`", "drop `sequence = false`"
    parts = math.lcm(world.tensor if sequence(context) else 1, 2 * world.context if world.context > 1 else 1)
    length = context.get("max_len")
    if isinstance(length, int) and (length % parts or PAD % parts):
        text = f"sequences of {length} tokens, padded to multiples of {PAD}, cannot be cut into {parts} equal parts"
        yield (
            "max_len",
            text,
            f"make `max_len` a multiple of {parts}, and `tensor` and `context` no larger than it allows",
        )


def _switches(hatch: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if hatch.get("overlap_param_gather") and not (
        hatch.get("overlap_grad_reduce") and hatch.get("use_distributed_optimizer", True)
    ):
        help = "write `overlap_grad_reduce = true`, and leave `use_distributed_optimizer` on"
        yield "megatron.overlap_param_gather", "parameters are gathered behind gradients that are reduced so", help
    dispatcher = hatch.get("moe_token_dispatcher_type", "allgather")
    if hatch.get("variable_seq_lengths") and getattr(dispatcher, "name", dispatcher) != "alltoall":
        help = "write `moe_token_dispatcher_type = alltoall`"
        yield "megatron.variable_seq_lengths", "sequences of different lengths need the alltoall dispatcher", help
    if hatch.get("recompute_method") is not None and "recompute_num_layers" not in hatch:
        yield (
            "megatron.recompute_method",
            "a method of recomputing needs a number of layers",
            "write `recompute_num_layers = 1`",
        )
