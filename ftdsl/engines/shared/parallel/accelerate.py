"""`accelerate.yaml`: the configuration of `accelerate launch`, for DDP, DeepSpeed and FSDP 1 and 2.

On CPU, too, the type is MULTI_GPU or DEEPSPEED and `use_cpu` is false: with MULTI_CPU accelerate starts one process, and with
`use_cpu` it silently drops DeepSpeed and FSDP. The engine's own `use_cpu` keeps the ranks on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator

from ftdsl.engines.jobs import Document
from ftdsl.engines.shared.parallel import deepspeed
from ftdsl.engines.shared.parallel.common import (
    distributed,
    equation,
    fsdp_version,
    launcher,
    offloads,
    zero_stage,
)
from ftdsl.engines.shared.parallel.config_lines import ConfigLine, document, with_passthrough
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.record import replace

NAME = "accelerate.yaml"
MIXED = {"bf16": "bf16", "fp16": "fp16", "fp8": "bf16"}
STATE = "fsdp_config.fsdp_state_dict_type"
SHARDED = "SHARDED_STATE_DICT"


def accelerate_config(context: StageContext) -> Document | None:
    """The configuration for `accelerate launch`; None with another launcher."""
    if launcher(context) != "accelerate" or not distributed(context):
        return None
    lines = [*_machines(context), *_kind(context), *_fsdp(context)]
    written = context.stage.settings.inside("accelerate")
    header = (f"{context.stage.key} ({context.location})", *equation(context))
    config = document(f"{context.folder}/{NAME}", "yaml", with_passthrough(lines, "accelerate", written), header)
    sharding = next((key for key in config.data if key in ("fsdp_config", "deepspeed_config")), "")
    return replace(config, titles={"compute_environment": "processes", sharding: "sharding"})


def shards(context: StageContext) -> bool:
    """Whether the engine writes shards, which must be merged into one model."""
    state = context.stage.settings.inside("accelerate").get(STATE)
    return fsdp_version(context) is not None and str(getattr(state, "name", state)) == SHARDED


def _machines(context: StageContext) -> Iterator[ConfigLine]:
    world = context.planned.world
    npu = "ascend" in world.gpu
    kind = "DEEPSPEED" if zero_stage(context) is not None else "FSDP" if fsdp_version(context) else "MULTI_GPU"
    yield ConfigLine("compute_environment", "LOCAL_MACHINE", "not a SageMaker job")
    yield ConfigLine("distributed_type", "MULTI_NPU" if npu and kind == "MULTI_GPU" else kind, "parallel.strategy")
    yield ConfigLine("num_machines", world.nodes, "hardware.nodes")
    yield ConfigLine("num_processes", world.size, "hardware.count")
    yield ConfigLine("machine_rank", 0, "each node gives its own on the command line")
    if world.nodes > 1:
        yield ConfigLine("rdzv_backend", "static", "the number of nodes is fixed")
        yield ConfigLine("same_network", True, "nodes reach each other by MASTER_ADDR and MASTER_PORT")
    else:
        yield ConfigLine("main_process_port", 0, "a free port: stages may run at the same time")
    yield ConfigLine("main_training_function", "main", "accelerate's default")
    if kind != "DEEPSPEED":  # its own file sets it; accelerate refuses it in both
        yield ConfigLine("mixed_precision", MIXED.get(context.planned.precision, "no"), "precision")
    yield ConfigLine("use_cpu", False, "true drops DeepSpeed and FSDP; without a GPU, the engine's YAML sets use_cpu")


def _kind(context: StageContext) -> Iterator[ConfigLine]:
    stage = zero_stage(context)
    if stage is None:
        return
    yield ConfigLine(
        "deepspeed_config.deepspeed_config_file", f"{context.folder}/{deepspeed.NAME}", "parallel.strategy"
    )
    if stage == 3:
        yield ConfigLine("deepspeed_config.zero3_init_flag", True, "the model is sharded while it is loaded")
    if context.planned.world.nodes > 1:
        yield ConfigLine(
            "deepspeed_config.deepspeed_multinode_launcher", "standard", "each node is started separately, without ssh"
        )


def _fsdp(context: StageContext) -> Iterator[ConfigLine]:
    version = fsdp_version(context)
    if version is None:
        return
    replicas = context.get("parallel.replicate")
    copies = replicas if isinstance(replicas, int) else 1
    yield from fsdp_lines(version, full=bool(offloads(context)), replicas=copies)
    if version == 2 and copies > 1:
        prefix = "parallelism_config.parallelism_config"
        yield ConfigLine(f"{prefix}_dp_replicate_size", copies, "parallel.replicate")
        yield ConfigLine(f"{prefix}_dp_shard_size", context.planned.world.data // copies, "parallel.replicate")


def fsdp_lines(version: int, *, full: bool = False, replicas: int = 1) -> Iterator[ConfigLine]:
    """The table `fsdp_config`. version: of FSDP; full: everything that is offloaded is; replicas: groups that shard apart."""
    yield ConfigLine("fsdp_config.fsdp_version", version, "parallel.strategy")
    yield ConfigLine(
        "fsdp_config.fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP", "one unit per layer, by the model's class names"
    )
    yield ConfigLine("fsdp_config.fsdp_offload_params", full, "parallel.offload")
    yield ConfigLine("fsdp_config.fsdp_cpu_ram_efficient_loading", True, "only the first rank reads the weights")
    yield ConfigLine(
        "fsdp_config.fsdp_activation_checkpointing",
        False,
        "the engine's own checkpointing does it (memory.checkpointing)",
    )
    yield ConfigLine(STATE, "FULL_STATE_DICT", "one model file, gathered on the first rank")
    if version == 1:
        sharding = "HYBRID_SHARD" if replicas > 1 else "FULL_SHARD"
        yield ConfigLine("fsdp_config.fsdp_sharding_strategy", sharding, "parallel.replicate")
        yield ConfigLine(
            "fsdp_config.fsdp_backward_prefetch", "BACKWARD_PRE", "gathers the next layer while this one computes"
        )
        yield ConfigLine("fsdp_config.fsdp_forward_prefetch", False, "accelerate's default")
        yield ConfigLine("fsdp_config.fsdp_sync_module_states", True, "the first rank sends the weights to the others")
        yield ConfigLine("fsdp_config.fsdp_use_orig_params", True, "allows frozen and trained weights in one unit")
        return
    yield ConfigLine(
        "fsdp_config.fsdp_reshard_after_forward", True, "as ZeRO-3: a layer is gathered only while it computes"
    )
