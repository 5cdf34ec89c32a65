"""What cannot be started, sharded or saved is refused at its key; what the engine would let pass in silence too."""

from __future__ import annotations

from ftdsl.engines.llamafactory.parallel import accelerate, common, megatron
from ftdsl.engines.llamafactory.parallel.common import FSDP, fsdp_version, launcher, offloads, zero_stage
from ftdsl.engines.llamafactory.work import Work

STARTS = {
    "torchrun": ("", "ddp", "zero0", "zero1", "zero2", "zero3", "megatron"),
    "accelerate": ("", "ddp", "zero0", "zero1", "zero2", "zero3", *FSDP),
    "deepspeed": ("", "ddp", "zero0", "zero1", "zero2", "zero3"),
    "ray": ("", "ddp", "zero0", "zero1", "zero2", "zero3"),
}
"""Strategies each launcher can start. FSDP is configured by accelerate's environment, Megatron runs under torchrun."""

ADAMS = ("", "auto", "adamw", "adamw_torch", "adamw_torch_fused")


def check(work: Work) -> None:
    """Errors for what this recipe asks of several processes and cannot get."""
    _launcher(work)
    _on_cpu(work)
    _splits(work)
    _offload(work)
    _saving(work)
    megatron.check(work)


def _launcher(work: Work) -> None:
    name, strategy, world = launcher(work), work.planned.strategy, work.planned.world
    if strategy not in STARTS[name]:
        can = next(other for other, strategies in STARTS.items() if strategy in strategies)
        work.refuse("launch.with", f"`{name}` cannot start `{strategy}`", f"write `with = {can}`")
    if world.elastic and name != "torchrun":
        work.refuse("hardware.nodes", f"a job started by `{name}` cannot be elastic", "write `with = torchrun`")
    if world.elastic and zero_stage(work):
        text = "checkpoints of ZeRO are of one number of ranks: when a node stays away, training cannot go on from them"
        span = work.stage.spans.get("hardware.nodes", work.stage.span)
        work.session.sink.warning("FT432", text, span, help="use `strategy = ddp`, whose checkpoints fit any number")
    if work.get("launch.retries") and (name == "ray" or (name == "deepspeed" and world.nodes > 1)):
        work.refuse("launch.retries", f"`{name}` starts no process again", "write `with = torchrun`, or `accelerate`")
    if name == "ray" and not world.gpu:
        work.refuse("launch.with", "`ray` workers of LLaMA-Factory take cards", "write `hardware { gpu = … }`")
    if name != "ray" and work.stage.settings.inside("launch.runtime_env"):
        work.refuse("launch.runtime_env", "`runtime_env` is Ray's", "write `with = ray`")
    if work.stage.settings.inside("accelerate") and name != "accelerate":
        work.refuse(
            "accelerate", f"`{name}` reads no configuration of accelerate", "write `launch { with = accelerate }`"
        )
    if work.stage.settings.inside("deepspeed") and zero_stage(work) is None:
        work.refuse("deepspeed", "without ZeRO nothing reads a configuration of DeepSpeed", "write `strategy = zero2`")
    if work.stage.settings.inside("megatron") and not common.megatron(work):
        work.refuse("megatron", "without Megatron nothing reads its arguments", "write `strategy = megatron`")


def _on_cpu(work: Work) -> None:
    if fsdp_version(work) and not work.planned.world.gpu:
        text = "on CPU FSDP is not done: accelerate would run plain copies and say nothing"
        work.refuse("parallel.strategy", text, "write `strategy = zero3`")


def _splits(work: Work) -> None:
    world, strategy = work.planned.world, work.planned.strategy
    if world.tensor > 1 and strategy != "megatron":
        if strategy not in ("zero0", "zero1", "zero2"):
            text = f"`{strategy or 'ddp'}` cannot split tensors"
            work.refuse("parallel.tensor", text, "write `strategy = zero1` (DeepSpeed AutoTP), or `megatron`")
        elif work.planned.method != "full":
            text = f"tensors are split by DeepSpeed AutoTP, which fails with `{work.planned.method}`"
            work.refuse("parallel.tensor", text, "write `full { }`")
    for name in ("pipeline", "context", "expert"):
        value = work.get(f"parallel.{name}")
        if isinstance(value, int) and value > 1 and strategy != "megatron":
            work.refuse(f"parallel.{name}", f"`{name}` needs Megatron", "write `strategy = megatron`")
    if work.get("parallel.sequence") is True and strategy != "megatron":
        work.refuse("parallel.sequence", "`sequence` needs Megatron", "write `strategy = megatron`")
    replicas = work.get("parallel.replicate")
    if isinstance(replicas, int) and replicas > 1:
        if not fsdp_version(work):
            work.refuse("parallel.replicate", "copies of a sharded model need FSDP", "write `strategy = fsdp2`")
        elif fsdp_version(work) == 1 and replicas != world.nodes:
            text = f"`fsdp1` shards within a node and copies between them: {world.nodes} here"
            work.refuse("parallel.replicate", text, f"write `replicate = {world.nodes}`, or `strategy = fsdp2`")


def _offload(work: Work) -> None:
    moved, stage, strategy = offloads(work), zero_stage(work), work.planned.strategy
    if not moved:
        return

    def refuse(text: str, help: str) -> None:
        span = work.stage.spans.get("parallel.offload", work.stage.span)
        work.session.sink.error("FT408", text, span, help=help)

    if strategy in FSDP:
        if set(moved) != {"optimizer", "params"} or any(moved.values()):
            refuse(
                f"`{strategy}` moves parameters and optimizer together, to main memory",
                "write `offload = [optimizer, params]`",
            )
        return
    if strategy == "megatron":
        if set(moved) != {"optimizer"} or any(moved.values()):
            refuse("`megatron` moves the optimizer, to main memory", "write `offload = [optimizer]`")
        return
    if not stage:
        refuse("offload needs sharding", "write `strategy = zero2`, or `zero3`")
        return
    if "params" in moved and stage != 3:
        refuse(f"`{strategy}` cannot offload parameters", "write `strategy = zero3`")
    if any(moved.values()) and stage != 3:
        refuse(f"`{strategy}` cannot move anything to NVMe", "write `strategy = zero3`")
    forced = work.stage.settings.inside("deepspeed").get("zero_force_ds_cpu_optimizer") is not False
    if "optimizer" in moved and forced and work.name("optim.name") not in ADAMS:
        text = (
            f"an offloaded optimizer is DeepSpeed's Adam: `{work.name('optim.name')}` would be replaced without a word"
        )
        refuse(text, "write `optim.name = adamw`, or `deepspeed { zero_force_ds_cpu_optimizer = false }`")


def _saving(work: Work) -> None:
    """Runs that would end well and leave no model."""

    def refuse(key: str, text: str, help: str) -> None:
        span = work.stage.spans.get(key, work.stage.span)
        work.session.sink.error("FT427", text, span, help=help)

    for block, name in (
        ("deepspeed", "zero_optimization.stage3_gather_16bit_weights_on_model_save"),
        ("deepspeed", "zero_optimization.gather_16bit_weights_on_model_save"),
        ("megatron", "save_hf_model"),
    ):
        if work.stage.settings.inside(block).get(name) is False:
            refuse(f"{block}.{name}", "no model would be written, and the run would end well", "drop it")
    if not accelerate.shards(work):
        return
    key = f"accelerate.{accelerate.STATE}"
    if work.planned.method not in ("full", "freeze"):
        refuse(key, "shards of an adapter cannot be made one", "write `fsdp_state_dict_type = FULL_STATE_DICT`")
    if work.name("save.every") == "never":
        refuse(key, "shards are gathered from the last checkpoint, and none is saved", "drop `save.every = never`")
