"""Launchers, number of processes, nodes, timeouts, Megatron."""

from __future__ import annotations

from ftdsl.lint.config import Config, Launch
from ftdsl.lint.rule import EVERY, Findings, error, info, rule, warning


@rule("FT405")
def needs_distributed_launch(config: Config) -> Findings:
    """What it does: finds DeepSpeed without a distributed launch.
    Why it matters: LLaMA-Factory refuses it, even on one GPU: it needs torchrun or `FORCE_TORCHRUN=1`. A YAML alone
        does not show how the run is launched, so this is an info there.
    Example:
        # with: gpus=1, launcher=python
        deepspeed: ds_config.json
        ---
        deepspeed: ds_config.json
    Use instead:
        # with: gpus=1, launcher=torchrun
        deepspeed: ds_config.json
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/parser.py:466-470 (0.9.5)
    """
    if not config.has("deepspeed") or config.kind != "train" or config.form == "recipe":
        return
    at = config.at("deepspeed")
    launch = config.launch
    if launch is not None and not launch.launcher and _several_cards(launch):
        return  # llamafactory-cli starts torchrun by itself (llamafactory/cli.py)
    if launch is None or not launch.launcher:
        if config.accelerate is None and (launch is None or launch.env.get("FORCE_TORCHRUN") not in ("1", "true")):
            yield info(
                at,
                "DeepSpeed needs a distributed launch, even on one GPU",
                help="start it with `FORCE_TORCHRUN=1 llamafactory-cli train …`",
            )
    elif launch.launcher == "python" and launch.env.get("FORCE_TORCHRUN") not in ("1", "true"):
        yield error(
            at,
            "DeepSpeed needs a distributed launch, even on one GPU",
            help="put `FORCE_TORCHRUN=1` before the command",
        )


def _several_cards(launch: Launch) -> bool:
    visible = [card for card in launch.env.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.strip()]
    return len(visible) > 1 or launch.processes > 1


@rule("FT419", EVERY)
def ddp_timeout_too_long(config: Config) -> Findings:
    """What it does: finds a `ddp_timeout` of more than a day.
    Why it matters: LLaMA-Factory's examples set 180000000 seconds (5.7 years), so that slow tokenising does not end a
        run; but then a dead rank is not noticed either, and the others wait, at full cost. Reported only where several
        ranks are known.
    Example:
        # with: gpus=8, launcher=torchrun
        ddp_timeout: 180000000
    Use instead:
        # with: gpus=8, launcher=torchrun
        ddp_timeout: 7200
        ---
        ddp_timeout: 180000000
    Applies to: PyTorch
    Source: LLaMA-Factory#2424; its examples ship 180000000
    """
    seconds = config.number("ddp_timeout")
    several = config.launch is not None and config.launch.world > 1
    sharded = config.deepspeed is not None or config.accelerate is not None
    if config.is_explicit("ddp_timeout") and seconds and seconds > 86400 and (several or sharded):
        at = config.at("ddp_timeout")
        years = seconds / 31557600
        timeout = f"{years:.1f} years" if years >= 1 else f"{seconds / 86400:.0f} days"
        yield info(
            at,
            f"if one rank dies, the others wait {timeout}",
            help="write 7200; if tokenising takes longer, do it in advance (`tokenized_path`)",
        )


@rule("FT420")
def no_master_address(config: Config) -> Findings:
    """What it does: finds several nodes without `MASTER_ADDR`, or with `RANK` where LLaMA-Factory reads `NODE_RANK`.
    Why it matters: every node waits for the others at 127.0.0.1, or all nodes take rank 0.
    Example:
        # with: nodes=2, gpus=8, launcher=llamafactory-cli, NNODES=2
        learning_rate: 1e-4
        ---
        # with: nodes=2, gpus=8, launcher=llamafactory-cli, NNODES=2, MASTER_ADDR=10.0.0.1, RANK=1
        learning_rate: 1e-4
    Use instead:
        # with: nodes=2, gpus=8, launcher=llamafactory-cli, NNODES=2, MASTER_ADDR=10.0.0.1, NODE_RANK=1
        learning_rate: 1e-4
    Applies to: LLaMA-Factory
    Source: llamafactory/launcher.py:62-66 (0.9.5); LLaMA-Factory#5450
    """
    launch = config.launch
    if launch is None or launch.nodes < 2 or config.form == "recipe" or launch.launcher != "llamafactory-cli":
        return
    at = config.first("model_name_or_path")
    if launch.env.get("MASTER_ADDR", "127.0.0.1") in ("127.0.0.1", "localhost"):
        yield error(
            at,
            f"{launch.nodes} nodes need a common `MASTER_ADDR`",
            help="set `MASTER_ADDR` to the first node's address, on every node",
        )
    if "RANK" in launch.env and "NODE_RANK" not in launch.env:
        yield error(at, "LLaMA-Factory reads `NODE_RANK`, not `RANK`", help="write `NODE_RANK` instead")


@rule("FT424", EVERY)
def zero3_corrupts(config: Config) -> Findings:
    """What it does: finds ZeRO-3 on several ranks with DeepSpeed before 0.19.8.
    Why it matters: 0.18.4, the newest version that LLaMA-Factory's metadata allows, silently corrupted weights in 8
        of 20 runs; 0.19.8 in none.
    Example:
        # with: gpus=2, launcher=torchrun, deepspeed=0.18.4
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Use instead:
        # with: gpus=2, launcher=torchrun, deepspeed=0.19.8
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}
    Applies to: DeepSpeed < 0.19.8
    Source: run here: 0.18.4, two ranks, 8 of 20; the upper bound in LLaMA-Factory's metadata is not enforced by 0.9.5
    """
    version = config.version("deepspeed")
    several = config.launch is None or config.launch.world != 1
    if config.zero == 3 and version and version < (0, 19, 8) and several:
        at = config.first("deepspeed")
        yield error(
            at,
            f"DeepSpeed {config.versions['deepspeed']} can corrupt weights with ZeRO-3",
            help="install deepspeed 0.19.8 or newer",
        )


@rule("FT433")
def megatron_trains_all(config: Config) -> Findings:
    """What it does: finds LoRA, OFT or freezing under LLaMA-Factory's Megatron path.
    Why it matters: that path does not read `finetuning_type`: it trains all weights and creates no adapter.
    Example:
        # with: USE_MCA=1, gpus=8
        finetuning_type: lora
    Use instead:
        # with: USE_MCA=1, gpus=8
        finetuning_type: full
    Applies to: LLaMA-Factory with mcore_adapter
    Source: llamafactory/train/mca/workflow.py (0.9.5, read)
    """
    megatron = config.launch is not None and config.launch.env.get("USE_MCA") in ("1", "true")
    method = config.value("finetuning_type")
    if megatron and config.trains and method != "full":
        at = config.at("finetuning_type")
        text = f"LLaMA-Factory's Megatron path ignores `{method}` and trains all weights"
        yield error(at, text, help="write `finetuning_type: full`, or train with DeepSpeed")


@rule("FT425")
def megatron_drops_trackers(config: Config) -> Findings:
    """What it does: finds wandb under LLaMA-Factory's Megatron path.
    Why it matters: that path silently removes wandb from `report_to`; nothing is tracked.
    Example:
        # with: USE_MCA=1, gpus=8
        report_to: wandb
    Use instead:
        # with: USE_MCA=1, gpus=8
        report_to: tensorboard
    Applies to: LLaMA-Factory with mcore_adapter
    Source: llamafactory/train/mca (0.9.5, read)
    """
    if (
        config.launch is not None
        and config.launch.env.get("USE_MCA") in ("1", "true")
        and "wandb" in config.items("report_to")
    ):
        at = config.at("report_to")
        yield warning(at, "LLaMA-Factory's Megatron path ignores wandb", help="write `report_to: tensorboard`")


@rule("FT439", EVERY)
def more_processes_than_gpus(config: Config) -> Findings:
    """What it does: compares the processes of a node with the GPUs that CUDA_VISIBLE_DEVICES shows.
    Why it matters: each process takes the GPU of its number; those beyond the last stop with "invalid device ordinal",
        after the model is loaded, and the others wait. `deepspeed --num_gpus` is left out: it ignores the variable.
    Example:
        # with: gpus=2, launcher=torchrun, CUDA_VISIBLE_DEVICES=0
        learning_rate: 1e-4
    Use instead:
        # with: gpus=1, launcher=torchrun, CUDA_VISIBLE_DEVICES=0
        learning_rate: 1e-4
    Applies to: PyTorch
    Source: torch/csrc/cuda; deepspeed/launcher/runner.py:437 (0.19.8)
    """
    launch = config.launch
    if launch is None or launch.launcher not in ("torchrun", "accelerate") or config.form == "recipe":
        return
    visible = [card.strip() for card in launch.env.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.strip()]
    processes, at = launch.processes, None
    if not processes and config.accelerate is not None:
        total, machines = config.accelerate.get("num_processes"), config.accelerate.get("num_machines", 1)
        if isinstance(total, int) and isinstance(machines, int) and machines > 0:
            processes, at = total // machines, config.accelerate.at("num_processes")
    if not all(card.isdigit() for card in visible) or not visible or processes <= len(visible):
        return
    where = at if at is not None and at.span is not None else config.first("do_train", "stage", "model_name_or_path")
    text = (
        f"{processes} processes are started on each node, and CUDA_VISIBLE_DEVICES shows GPU {', '.join(visible)} only"
    )
    yield error(where, text, help=f"start {len(visible)}, or show {processes}")
