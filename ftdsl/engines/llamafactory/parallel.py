"""How the processes of a stage start, and a minimal DeepSpeed configuration (stage, batch, dtype, offload)."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Raw
from ftdsl.engines.llamafactory.work import Work

PYTHON = Raw('"$FT_PYTHON"')
ZERO = ("zero0", "zero1", "zero2", "zero3")


def check(work: Work) -> None:
    """What cannot be started yet is refused at its key."""
    strategy = work.planned.strategy
    if strategy not in ("", "ddp", *ZERO):
        work.refuse("parallel.strategy", f"`{strategy}` cannot be compiled yet", "use `ddp` or `zero0` … `zero3`")
    if work.planned.world.nodes > 1:
        work.refuse("hardware.nodes", "several nodes cannot be compiled yet", "write `nodes = 1`")
    if work.name("launch.with") not in ("", "auto", "torchrun"):
        work.refuse("launch.with", f"`{work.name('launch.with')}` cannot be compiled yet", "use `torchrun`")
    if offloads(work) and strategy not in ("zero2", "zero3"):
        work.refuse("parallel.offload", "offload needs ZeRO", "write `strategy = zero2`, or `zero3`")
    if "params" in offloads(work) and strategy == "zero2":
        work.refuse("parallel.offload", "ZeRO-2 cannot offload parameters", "write `strategy = zero3`")


def offloads(work: Work) -> list[str]:
    names = [getattr(item, "name", item) for item in work.stage.settings.items("parallel.offload")]
    return [str(name) for name in names if name not in (None, "none", "auto")]


def ds_config(work: Work) -> dict[str, Any] | None:
    """The DeepSpeed configuration of a ZeRO stage, in numbers wherever the plan knows them; None without ZeRO."""
    planned = work.planned
    batch = planned.batch
    if planned.strategy not in ZERO or batch is None:
        return None
    stage = int(planned.strategy[-1])
    zero: dict[str, Any] = {"stage": stage}
    if stage in (1, 2):
        zero |= {"overlap_comm": True, "contiguous_gradients": True}
    if stage == 3:
        zero |= {"overlap_comm": True, "contiguous_gradients": True, "stage3_gather_16bit_weights_on_model_save": True}
    moved = offloads(work)
    if "optimizer" in moved:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": bool(planned.world.gpu)}
    if "params" in moved:
        zero["offload_param"] = {"device": "cpu", "pin_memory": bool(planned.world.gpu)}
    # No `train_batch_size`: ZeRO-3 reads the file while the model is loaded, before DeepSpeed knows how many ranks there
    # are, and would refuse the product. It follows from the two numbers below.
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": batch.micro,
        "gradient_accumulation_steps": batch.accumulate,
        "gradient_clipping": _clip(work),
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": planned.precision in ("bf16", "pure_bf16", "fp8")},
        "fp16": {"enabled": planned.precision == "fp16"},
        "zero_optimization": zero,
    }
    return config


def _clip(work: Work) -> float:
    """0 for `none`, as DeepSpeed has it."""
    value = work.get("optim.clip")
    return float(value) if isinstance(value, int | float) else 0.0


def distributed(work: Work) -> bool:
    return work.planned.world.size > 1 or work.planned.strategy in ZERO


def launch(work: Work, configs: list[str], flags: tuple[str, ...]) -> list[Command]:
    """The commands that train or score: one Python for all configs, or torchrun around each.

    `python -m torch.distributed.run` instead of `torchrun`: the latter is looked up on PATH, where another
    environment's may stand.
    """
    world = ("--stage", work.folder, "--world", str(work.planned.world.size))
    if not distributed(work):
        return [Command((PYTHON, "runtime/engine.py", "train", *configs, *world, *flags))]
    run: tuple[str | Raw, ...] = (PYTHON, "-m", "torch.distributed.run")
    run += ("--nnodes", "1", "--nproc_per_node", str(work.planned.world.processes_per_node))
    if work.said("launch.head") or work.said("launch.port"):
        head = work.get("launch.head") or "127.0.0.1"
        run += ("--master_addr", str(head), "--master_port", str(work.get("launch.port")))
    else:
        run += ("--standalone",)  # finds a free port: stages may run side by side
    return [Command((*run, "runtime/engine.py", "train", config, *world, *flags)) for config in configs]


def environment(work: Work) -> dict[str, str | Raw]:
    """Which cards are seen, and threads on CPU."""
    if not work.planned.world.gpu:
        return {"OMP_NUM_THREADS": Raw('"${OMP_NUM_THREADS:-1}"')}
    devices = work.get("hardware.devices")
    if devices:
        return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))}
    if not distributed(work):  # the engine refuses one process that sees several cards
        return {"CUDA_VISIBLE_DEVICES": Raw('"${CUDA_VISIBLE_DEVICES:-0}"')}
    return {}
