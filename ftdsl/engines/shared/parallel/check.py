"""Errors for what cannot be launched, sharded or saved, including what the engine would accept without a message."""

from __future__ import annotations

from ftdsl.engines.shared.parallel import accelerate, common
from ftdsl.engines.shared.parallel.common import FSDP, fsdp_version, launcher, loaded_in_parts, offloads, zero_stage
from ftdsl.engines.shared.stage_context import StageContext

STARTS = {
    "torchrun": ("", "ddp", "zero0", "zero1", "zero2", "zero3", "megatron"),
    "accelerate": ("", "ddp", "zero0", "zero1", "zero2", "zero3", *FSDP),
    "deepspeed": ("", "ddp", "zero0", "zero1", "zero2", "zero3"),
    "ray": ("", "ddp", "zero0", "zero1", "zero2", "zero3"),
}
"""Strategies that each launcher can start. accelerate configures FSDP by environment variables; Megatron needs torchrun."""

ADAMS = ("", "auto", "adamw", "adamw_torch", "adamw_torch_fused")


def check(context: StageContext) -> None:
    """Errors for settings of several processes that cannot work."""
    _launcher(context)
    _on_cpu(context)
    _splits(context)
    _offload(context)
    _saving(context)


def _launcher(context: StageContext) -> None:
    name, strategy, world = launcher(context), context.planned.strategy, context.planned.world
    if loaded_in_parts(context):
        if name != "torchrun":
            text = f"a model that is split while it is loaded is started by torchrun, not by `{name}`"
            context.refuse("launch.with", text, "drop `with`")
    elif strategy not in STARTS[name]:
        can = next(other for other, strategies in STARTS.items() if strategy in strategies)
        context.refuse("launch.with", f"`{name}` cannot start `{strategy}`", f"write `with = {can}`")
    if world.elastic and name != "torchrun":
        context.refuse("hardware.nodes", f"a job started by `{name}` cannot be elastic", "write `with = torchrun`")
    if world.elastic and zero_stage(context):
        text = "ZeRO checkpoints resume only with the same number of ranks; if a node is lost, training cannot resume"
        span = context.stage.spans.get("hardware.nodes", context.stage.span)
        context.session.sink.warning("FT432", text, span, help="use `strategy = ddp`, which resumes with any number")
    if context.get("launch.retries") and (name == "ray" or (name == "deepspeed" and world.nodes > 1)):
        context.refuse(
            "launch.retries", f"`{name}` does not restart processes", "write `with = torchrun`, or `accelerate`"
        )
    if name == "ray" and not world.gpu:
        context.refuse(
            "launch.with", f"Ray workers of {context.engine.title} need GPUs", "write `hardware { gpu = … }`"
        )
    if name != "ray" and context.stage.settings.inside("launch.runtime_env"):
        context.refuse("launch.runtime_env", "only Ray reads `runtime_env`", "write `with = ray`")
    if context.stage.settings.inside("accelerate") and name != "accelerate":
        context.refuse(
            "accelerate", f"`{name}` does not read accelerate's configuration", "write `launch { with = accelerate }`"
        )
    if context.stage.settings.inside("deepspeed") and zero_stage(context) is None:
        context.refuse("deepspeed", "without ZeRO nothing reads DeepSpeed's configuration", "write `strategy = zero2`")
    if context.stage.settings.inside("megatron") and not common.megatron(context):
        context.refuse("megatron", "without Megatron nothing reads its parameters", "write `strategy = megatron`")


def _on_cpu(context: StageContext) -> None:
    if loaded_in_parts(context) and not context.planned.world.gpu:
        why = "accelerate refuses split tensors on CPU (ParallelismConfig is only compatible with several GPUs)"
        context.refuse("parallel.tensor", why, "write `hardware { gpu = … }`, or `strategy = zero3` without `tensor`")
    if fsdp_version(context) and not context.planned.world.gpu:
        text = f"`{context.planned.strategy}` does not work on CPU: accelerate would silently run unsharded copies"
        context.refuse("parallel.strategy", text, "write `strategy = zero3`")


def _splits(context: StageContext) -> None:
    world, strategy = context.planned.world, context.planned.strategy
    if world.tensor > 1 and strategy != "megatron" and not loaded_in_parts(context):
        if strategy not in ("zero0", "zero1", "zero2"):
            text = f"`{strategy or 'ddp'}` cannot split tensors"
            context.refuse("parallel.tensor", text, "write `strategy = zero1` (DeepSpeed AutoTP), or `megatron`")
        elif context.planned.method != "full":
            text = f"DeepSpeed AutoTP splits tensors here, and fails with `{context.planned.method}`"
            context.refuse("parallel.tensor", text, "write `full { }`")
    for name in ("pipeline", "context", "expert"):
        value = context.get(f"parallel.{name}")
        if isinstance(value, int) and value > 1 and strategy != "megatron":
            context.refuse(f"parallel.{name}", f"`{name}` needs Megatron", "write `strategy = megatron`")
    if context.get("parallel.sequence") is True and strategy != "megatron":
        context.refuse("parallel.sequence", "`sequence` needs Megatron", "write `strategy = megatron`")
    replicas = context.get("parallel.replicate")
    if isinstance(replicas, int) and replicas > 1:
        if not fsdp_version(context) and not loaded_in_parts(context):
            context.refuse("parallel.replicate", "replicas of a sharded model need FSDP", "write `strategy = fsdp2`")
        elif fsdp_version(context) == 1 and replicas != world.nodes:
            text = f"`fsdp1` shards within a node, so there is one replica per node: {world.nodes}"
            context.refuse("parallel.replicate", text, f"write `replicate = {world.nodes}`, or `strategy = fsdp2`")


def _offload(context: StageContext) -> None:
    moved, stage, strategy = offloads(context), zero_stage(context), context.planned.strategy
    if not moved:
        return

    def refuse(text: str, help: str) -> None:
        span = context.stage.spans.get("parallel.offload", context.stage.span)
        context.session.sink.error("FT408", text, span, help=help)

    if strategy in FSDP:
        if set(moved) != {"optimizer", "params"} or any(moved.values()):
            refuse(
                f"`{strategy}` offloads parameters and optimizer together, to main memory",
                "write `offload = [optimizer, params]`",
            )
        return
    if strategy == "megatron":
        if set(moved) != {"optimizer"} or any(moved.values()):
            refuse("`megatron` offloads only the optimizer, to main memory", "write `offload = [optimizer]`")
        return
    if not stage:
        refuse("offload needs sharding", "write `strategy = zero2`, or `zero3`")
        return
    if "params" in moved and stage != 3:
        refuse(f"`{strategy}` cannot offload parameters", "write `strategy = zero3`")
    if any(moved.values()) and stage != 3:
        refuse(f"`{strategy}` cannot offload to NVMe", "write `strategy = zero3`")
    forced = context.stage.settings.inside("deepspeed").get("zero_force_ds_cpu_optimizer") is not False
    if "optimizer" in moved and forced and context.name("optim.name") not in ADAMS:
        text = f"DeepSpeed offloads its own Adam only: it would silently replace `{context.name('optim.name')}`"
        refuse(text, "write `optim.name = adamw`, or `deepspeed { zero_force_ds_cpu_optimizer = false }`")


def _saving(context: StageContext) -> None:
    """Runs that would succeed and write no model."""

    def refuse(key: str, text: str, help: str) -> None:
        span = context.stage.spans.get(key, context.stage.span)
        context.session.sink.error("FT427", text, span, help=help)

    for block, name in (
        ("deepspeed", "zero_optimization.stage3_gather_16bit_weights_on_model_save"),
        ("deepspeed", "zero_optimization.gather_16bit_weights_on_model_save"),
        ("megatron", "save_hf_model"),
    ):
        if context.stage.settings.inside(block).get(name) is False:
            refuse(f"{block}.{name}", "the run would succeed and write no model", "drop it")
    if not accelerate.shards(context):
        return
    key = f"accelerate.{accelerate.STATE}"
    if context.planned.method not in ("full", "freeze"):
        refuse(key, "shards of an adapter cannot be merged", "write `fsdp_state_dict_type = FULL_STATE_DICT`")
    if context.name("save.every") == "never":
        refuse(
            key, "shards are merged from the last checkpoint, and no checkpoint is saved", "drop `save.every = never`"
        )
