"""FSDP and accelerate: their configuration, alone and with DeepSpeed."""

from __future__ import annotations

from ftdsl.lint.config import Config
from ftdsl.lint.edits import drop, put
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning

DS_FIELDS = ("gradient_accumulation_steps", "gradient_clipping", "zero_stage", "offload_optimizer_device", "offload_param_device",
             "offload_param_nvme_path", "offload_optimizer_nvme_path", "zero3_save_16bit_model", "mixed_precision")  # fmt: skip
"""Fields that accelerate rejects together with `deepspeed_config_file` (utils/dataclasses.py, _deepspeed_config_checks)."""


def option(name: str) -> str:
    return f"fsdp_config.fsdp_{name}"


@rule("FT404", EVERY)
def sharded_twice(config: Config) -> Findings:
    """What it does: finds both DeepSpeed and FSDP.
    Why it matters: each shards the model its own way; one is set up on top of the other, and the run fails when it
        first saves or gathers.
    Example:
        deepspeed: ds_config.json
        fsdp: full_shard auto_wrap
        ---
        deepspeed: ds_config.json
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2}
    Use instead:
        deepspeed: ds_config.json
    Applies to: transformers, accelerate
    Source: axolotl validation.py:1228; transformers/training_args.py __post_init__ (5.6.0)
    """
    if not config.has("deepspeed"):
        return
    at = config.at("deepspeed")
    if config.value("fsdp"):
        other = config.at("fsdp")
        yield error(at, "DeepSpeed and FSDP are both set", also=((other, "and here"),), help="keep one of them")
    elif config.accelerate is not None and config.accelerate.get("distributed_type") == "FSDP":
        other = config.accelerate.at("distributed_type")
        yield error(
            at,
            "DeepSpeed and FSDP are both set",
            also=((other, "and here"),),
            help="drop `deepspeed`, or launch with torchrun",
        )


@rule("FT407", EVERY)
def deepspeed_set_twice(config: Config) -> Findings:
    """What it does: finds DeepSpeed fields in accelerate's configuration together with a DeepSpeed file.
    Why it matters: accelerate stops, as it would ignore those fields.
    Example:
        # file: accelerate.yaml
        distributed_type: DEEPSPEED
        deepspeed_config: {deepspeed_config_file: ds_config.json, zero_stage: 2}
    Use instead:
        # file: accelerate.yaml
        distributed_type: DEEPSPEED
        deepspeed_config: {deepspeed_config_file: ds_config.json}
    Applies to: accelerate
    Source: accelerate/utils/dataclasses.py, _deepspeed_config_checks (1.11.0); accelerate#3203
    """
    document = config.accelerate
    if document is None or not document.get("deepspeed_config.deepspeed_config_file"):
        return
    for name in DS_FIELDS:
        path = name if name == "mixed_precision" else f"deepspeed_config.{name}"
        if document.get(path) is not None:
            at = document.at(path)
            yield error(
                at,
                f"accelerate rejects `{name}` together with a DeepSpeed file",
                help="set it in that file",
                fix=drop(at, safe=False),
            )


@rule("FT410", EVERY)
def fsdp1_deprecated(config: Config) -> Findings:
    """What it does: finds FSDP 1.
    Why it matters: transformers uses FSDP 2 by default since 5.10, and FSDP 1 will be removed; it also flattens
        layers, which LoRA and quantised weights do not support.
    Example:
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 1}
    Use instead:
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2}
    Applies to: accelerate, transformers
    Source: transformers#45640; axolotl validation.py:1041
    """
    document = config.accelerate
    if config.fsdp == 1 and document is not None and document.get("distributed_type") == "FSDP":
        at = document.at(option("version"))
        setting, fix = (at, put(at, "2", safe=False)) if at.is_explicit else (document.at("fsdp_config"), None)
        help = "write `strategy = fsdp2`" if config.form == "recipe" else "write `fsdp_version: 2`"
        yield warning(setting, "FSDP 1 is deprecated", help=help, fix=fix)


@rule("FT411", EVERY)
def option_of_other_fsdp_version(config: Config) -> Findings:
    """What it does: finds options of FSDP 1 under FSDP 2, and vice versa.
    Why it matters: accelerate stops on some of them and ignores others with a log line only.
    Example:
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: FULL_SHARD}
        ---
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_state_dict_type: LOCAL_STATE_DICT}
        ---
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_use_orig_params: true}
        ---
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 1, fsdp_reshard_after_forward: true}
    Use instead:
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: true, fsdp_state_dict_type: FULL_STATE_DICT}
    Applies to: accelerate
    Source: accelerate/utils/dataclasses.py:1822-2011 (1.11.0)
    """
    document = config.accelerate
    if document is None or config.fsdp is None:
        return
    shard = document.get(option("reshard_after_forward"))
    at = document.at(option("reshard_after_forward"))
    if config.fsdp == 2:
        if isinstance(shard, str) and shard.lower() not in ("true", "false"):
            yield error(at, "FSDP 2 needs true or false here", help="write `true`", fix=put(at, "true"))
        if document.get(option("state_dict_type")) == "LOCAL_STATE_DICT":
            at = document.at(option("state_dict_type"))
            yield error(
                at,
                "FSDP 2 does not support a local state dict",
                help="write `SHARDED_STATE_DICT` or `FULL_STATE_DICT`",
                fix=put(at, "SHARDED_STATE_DICT"),
            )
        if document.get(option("forward_prefetch")):
            at = document.at(option("forward_prefetch"))
            yield error(at, "FSDP 2 does not support forward prefetch", help="drop it", fix=drop(at))
        for name in ("use_orig_params", "sync_module_states", "backward_prefetch"):
            if document.get(option(name)) not in (None, "NO_PREFETCH"):
                at = document.at(option(name))
                yield warning(at, f"FSDP 2 ignores `fsdp_{name}`", help="drop it", fix=drop(at, safe=True))
    elif isinstance(shard, bool):
        yield error(at, "FSDP 1 needs the name of a strategy here", help="write `FULL_SHARD`, or `fsdp_version: 2`")


@rule("FT421")
def checkpointed_twice(config: Config) -> Findings:
    """What it does: finds FSDP's activation checkpointing together with LLaMA-Factory's own.
    Why it matters: every layer is computed three times instead of twice.
    Example:
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_activation_checkpointing: true}
    Use instead:
        disable_gradient_checkpointing: true
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_activation_checkpointing: true}
    Applies to: transformers, accelerate
    Source: transformers/training_args.py:2728 (5.6.0); llamafactory/model/model_utils/checkpointing.py (0.9.5)
    """
    document = config.accelerate
    if document is None or not config.fsdp or config.kind != "train" or not config.settings:
        return
    if document.get(option("activation_checkpointing")) is True and not config.on("disable_gradient_checkpointing"):
        at = document.at(option("activation_checkpointing"))
        yield warning(
            at,
            "activations are checkpointed twice: here and by LLaMA-Factory",
            help="drop it, or write `disable_gradient_checkpointing: true`",
            fix=drop(at),
        )


@rule("FT423", EVERY)
def weights_not_broadcast(config: Config) -> Findings:
    """What it does: finds models loaded on one rank but not broadcast to the others.
    Why it matters: with FSDP 1 the other ranks train empty weights, or accelerate overrides the option with a log line
        only.
    Example:
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 1, fsdp_cpu_ram_efficient_loading: true, fsdp_sync_module_states: false}
    Use instead:
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 1, fsdp_cpu_ram_efficient_loading: true, fsdp_sync_module_states: true}
    Applies to: accelerate
    Source: accelerate/utils/dataclasses.py:1916 (1.11.0)
    """
    document = config.accelerate
    if document is None or config.fsdp != 1 or document.get(option("cpu_ram_efficient_loading")) is not True:
        return
    if document.get(option("sync_module_states")) is False:
        at = document.at(option("sync_module_states"))
        yield error(
            at,
            "weights are loaded on one rank but not broadcast to the others",
            help="write `true`",
            fix=put(at, "true"),
        )


@rule("FT422", EVERY)
def replicas_not_sharded(config: Config) -> Findings:
    """What it does: finds tensor or context parallelism with replicas that are not sharded.
    Why it matters: accelerate rejects it: both need sharded replicas (`dp_shard`).
    Example:
        # file: accelerate.yaml
        parallelism_config: {parallelism_config_dp_replicate_size: 2, parallelism_config_tp_size: 2}
    Use instead:
        # file: accelerate.yaml
        parallelism_config: {parallelism_config_dp_shard_size: 2, parallelism_config_tp_size: 2}
    Applies to: accelerate
    Source: accelerate/parallelism_config.py:273 (1.11.0)
    """
    document = config.accelerate
    if document is None:
        return
    sizes = {
        name: document.get(f"parallelism_config.parallelism_config_{name}_size", 1)
        for name in ("dp_replicate", "dp_shard", "tp", "cp")
    }
    if not all(isinstance(size, int) for size in sizes.values()):
        return
    if sizes["dp_replicate"] > 1 and sizes["dp_shard"] <= 1 and (sizes["tp"] > 1 or sizes["cp"] > 1):
        at = document.at("parallelism_config.parallelism_config_dp_replicate_size")
        yield error(
            at,
            "tensor and context parallelism need sharded replicas",
            help="write `parallelism_config_dp_shard_size` instead",
        )


@rule("FT403", EVERY)
def ranks_do_not_divide(config: Config) -> Findings:
    """What it does: checks the sizes of accelerate's parallelism against the number of ranks.
    Why it matters: their product must equal the number of ranks; accelerate stops when it creates the groups.
    Example:
        # with: gpus=8
        # file: accelerate.yaml
        num_processes: 8
        parallelism_config: {parallelism_config_dp_shard_size: 3, parallelism_config_tp_size: 2}
    Use instead:
        # with: gpus=8
        # file: accelerate.yaml
        num_processes: 8
        parallelism_config: {parallelism_config_dp_shard_size: 4, parallelism_config_tp_size: 2}
    Applies to: accelerate
    Source: accelerate/parallelism_config.py, _validate_accelerator (1.11.0)
    """
    document = config.accelerate
    table = document.get("parallelism_config") if document else None
    world = document.get("num_processes") if document else None
    if document is None or not isinstance(table, dict) or not isinstance(world, int):
        return
    sizes = {
        name.removeprefix("parallelism_config_").removesuffix("_size"): size
        for name, size in table.items()
        if name.endswith("_size")
    }
    product = 1
    for size in sizes.values():
        product *= size if isinstance(size, int) else 1
    if product != world:
        formula = " x ".join(f"{size} {name}" for name, size in sizes.items())
        at = document.at("parallelism_config")
        yield error(
            at, f"{formula} = {product}, but there are {world} ranks", help=f"choose sizes whose product is {world}"
        )
