"""How processes start: launcher, GPUs, nodes; DeepSpeed and accelerate files as `parallel { }`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ftdsl.importers import outside, sharding
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.importers.values import whole
from ftdsl.language.values import Range, Term
from ftdsl.lint.config import Document
from ftdsl.source import Span

MEGATRON = {"tensor_model_parallel_size": "tensor", "pipeline_model_parallel_size": "pipeline",
            "context_parallel_size": "context", "expert_model_parallel_size": "expert"}  # fmt: skip

_ON = ("1", "true", "True")
NODES = ("nnodes", "num_machines", "num_nodes", "NNODES")
COUNT = ("nproc_per_node", "num_gpus", "NPROC_PER_NODE")


def hardware(draft: StageDraft) -> None:
    """GPUs and nodes from the launcher; for a file alone one GPU is assumed, with a remark."""
    if draft.kind == "merge":
        return  # done on the CPU
    if draft.kind == "quantize" and draft.config.value("export_device") == "cpu":
        draft.set("hardware.gpu", Term("none"))
        return
    processes, nodes = _processes(draft), _nodes(draft)
    _uneven(draft)
    devices = draft.env("CUDA_VISIBLE_DEVICES") or draft.env("ASCEND_RT_VISIBLE_DEVICES")
    ids = [number for part in devices.split(",") if (number := whole(part.strip())) is not None]
    if draft.on("use_cpu") or devices == "-1" or _accelerate(draft).get("use_cpu") is True:
        draft.set("hardware.gpu", Term("none"))
    else:
        draft.set("hardware.gpu", Term("auto"), "which GPU? the plan can do more when it knows: h100(80GB), rtx4090, …")
    count = processes or len(ids) or _at_least(draft)
    all_processes = ("num_processes",) if nodes == 1 else ()  # accelerate counts those of all machines
    if not outside.launch(draft, (*COUNT, *all_processes), "hardware.count", "int"):
        draft.set("hardware.count", count, "" if processes or ids else "as many as the engine sees: write how many")
    if not outside.launch(draft, NODES, "hardware.nodes", "int") and nodes != 1:
        draft.set("hardware.nodes", nodes)
    if ids and ids != list(range(len(ids))):
        draft.set("hardware.devices", ids)


def _uneven(draft: StageDraft) -> None:
    """accelerate's `num_processes` is the total of all machines."""
    total, machines = _count(_accelerate(draft).get("num_processes"), 0), _machines(draft)
    document = draft.config.accelerate
    if document is None or not total or total % machines == 0:
        return
    at = document.at("num_processes")
    text = (
        f"{total} is the total of {machines} machines, which it cannot be: taken as {max(1, total // machines)} of each"
    )
    draft.notes.append(Note(at.word, text, at.key or at.span, carried=True))


def _at_least(draft: StageDraft) -> int:
    """Megatron splits a model over so many GPUs; experts are spread over its data-parallel ranks."""
    return math.prod(_count(draft.config.number(name), 1) for name in MEGATRON)


def _count(value: Any, other: int) -> int:
    """A number of processes or machines; `other` for what cannot be one."""
    return int(value) if isinstance(value, int | float) and 1 <= value < _MANY else other


_MANY = 10**6
"""More than anybody has."""


def _accelerate(draft: StageDraft) -> Mapping[str, Any]:
    return draft.config.accelerate.data if draft.config.accelerate else {}


def _processes(draft: StageDraft) -> int:
    """Processes of one node, 0 when nothing says."""
    workers = draft.raw("ray_num_workers")
    if number := _count(workers, 0):
        return number
    launch = draft.config.launch
    if launch and launch.processes:
        return launch.processes
    return _count(_accelerate(draft).get("num_processes"), 0) // _machines(draft)


def _nodes(draft: StageDraft) -> Any:
    low, high = draft.env("MIN_NNODES"), draft.env("MAX_NNODES")
    if (least := whole(low)) is not None and (most := whole(high)) is not None:
        return Range(least, most)
    if draft.config.launch and draft.config.launch.nodes > 1:
        return draft.config.launch.nodes
    return _machines(draft)


def _machines(draft: StageDraft) -> int:
    return _count(_accelerate(draft).get("num_machines"), 1)


def launcher(draft: StageDraft) -> None:
    """Only what differs from a recipe's default: torchrun, and accelerate for FSDP."""
    launch = draft.config.launch
    kind = launch.launcher if launch else ""
    if draft.given("ray_num_workers") or draft.env("USE_RAY") in _ON:
        kind = "ray"
        ray_options = draft.raw("ray_init_kwargs")
        for name, value in (ray_options.get("runtime_env") or {}).items() if isinstance(ray_options, Mapping) else ():
            draft.set(f"launch.runtime_env.{name}", value)
    sharded = draft.values.get("parallel.strategy")
    natural = {"", "python", "torchrun"} | (
        {"accelerate"} if isinstance(sharded, Term) and "fsdp" in sharded.name else set()
    )
    if kind not in natural:
        draft.set("launch.with", Term(kind))


def rendezvous(draft: StageDraft) -> None:
    """Address and port of the first node, and restarts."""
    given = _accelerate(draft)
    unknown = draft.config.launch.unknown if draft.config.launch else {}
    if _nodes(draft) != 1 or any(name in unknown for name in NODES):  # one node needs to ask nobody
        outside.launch(draft, ("MASTER_ADDR",), "launch.head", "text")
        outside.launch(draft, ("MASTER_PORT",), "launch.port", "int")
    head = draft.env("MASTER_ADDR") or given.get("main_process_ip") or draft.raw("master_addr")
    port = draft.env("MASTER_PORT") or given.get("main_process_port") or draft.raw("master_port")
    if head:
        draft.set("launch.head", str(head))
    if port and (number := whole(str(port))):  # 0: any that is free, which a recipe finds by itself
        draft.set("launch.port", number)
    retries = draft.env("MAX_RESTARTS")
    if times := whole(retries):
        draft.set("launch.retries", times)


def strategy(draft: StageDraft) -> None:
    """Who shards what. DeepSpeed and FSDP at once cannot run, so DeepSpeed is kept and the other is named."""
    config = draft.config
    megatron = _megatron(draft)
    if megatron:
        return
    is_set = "parallel.strategy" in draft.values
    if draft.given("deepspeed") or config.deepspeed is not None or is_set or _named(draft):
        if not is_set:
            _deepspeed(draft, config.deepspeed)
        _no_fsdp(draft)
        return
    if config.accelerate is not None and config.accelerate.get("distributed_type") == "FSDP":
        fsdp(draft, config.accelerate)
    elif draft.raw("fsdp"):
        _own_fsdp(draft)


def silent(draft: StageDraft) -> None:
    """Set the engine's defaults that a plan for a known GPU may change: checkpointing, no offload,
    and plain data parallelism."""
    if not draft.training or draft.values.get("hardware.gpu") == Term("none"):
        return
    sharded = draft.values.get("parallel.strategy")
    kind = sharded.name if isinstance(sharded, Term) else ""
    if kind == "megatron":
        return
    draft.set("memory.checkpointing", Term("full"))
    if not draft.given("enable_liger_kernel", "use_unsloth", "use_unsloth_gc", "use_kt"):
        draft.set("kernels", Term("none"))
    if not kind and not draft.given("deepspeed") and not _named(draft):
        draft.set("parallel.strategy", Term("ddp"))
    elif kind not in ("", "ddp", "zero0"):
        draft.set("parallel.offload", [Term("none")])


def table(document: Document, name: str) -> Mapping[str, Any]:
    """A table of a file; empty for any other value."""
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def alone(draft: StageDraft) -> None:
    """Keys of DeepSpeed and accelerate files without an invocation."""
    strategy(draft)
    if draft.config.accelerate is not None:
        hardware(draft)
        rendezvous(draft)
        _keys_alone(draft, draft.config.accelerate, "accelerate")
    document = draft.config.deepspeed
    if document is None:
        return
    for path, word in _BATCH.items():
        if isinstance(value := document.get(path), int | float):
            draft.set(word, value)
    for name, old in (("bf16", "bfloat16"), ("fp16", "fp16")):
        if document.get(f"{name}.enabled") is True or document.get(f"{old}.enabled") is True:
            draft.set("precision", Term(name))
    if document.settings:  # not those that accelerate's file gives
        _keys_alone(draft, document, "deepspeed")


def _keys_alone(draft: StageDraft, document: Document, block: str) -> None:
    """Keys of a DeepSpeed or accelerate file alone without a key of the language go into its own block, or are noted."""
    for leaf in sharding.uncovered(block, document.data, draft.engine):
        if leaf.path in _BATCH or leaf.path.endswith(("bf16.enabled", "fp16.enabled", "bfloat16.enabled")):
            continue
        if leaf.carry:
            draft.set(f"{block}.{leaf.path}", leaf.theirs)
        else:
            at = document.at(leaf.path)
            draft.notes.append(Note(leaf.path, leaf.why or "a recipe works it out", at.key or at.span))


_BATCH = {"train_batch_size": "batch.global", "train_micro_batch_size_per_gpu": "batch.micro",
          "gradient_accumulation_steps": "batch.accumulate", "gradient_clipping": "optim.clip"}  # fmt: skip


def _megatron(draft: StageDraft) -> bool:
    bridge = draft.env("USE_MEGATRON_BRIDGE") in _ON
    draft.used.add("use_mca")
    if not bridge and draft.env("USE_MCA") not in _ON and not draft.given(*MEGATRON):
        return False
    draft.set("parallel.strategy", Term("megatron", {"bridge": True} if bridge else {}))
    for name, word in MEGATRON.items():
        if (value := draft.raw(name)) is not None and (value != 1 or word in ("tensor",)):
            draft.set(f"parallel.{word}", value)
    if draft.given("sequence_parallel"):
        draft.set("parallel.sequence", draft.raw("sequence_parallel"))
    granularity = draft.raw("recompute_granularity")  # silent: the adapter recomputes nothing
    draft.set("memory.checkpointing", Term(granularity if granularity in ("full", "selective") else "none"))
    return True


def _deepspeed(draft: StageDraft, document: Document | None) -> None:
    """A DeepSpeed file as three keys (strategy, offload, tensor); its other keys are noted."""
    draft.used.add("deepspeed")
    if document is None:
        _by_name(draft, str(draft.raw("deepspeed") or _named(draft)))
        return
    stage = document.get("zero_optimization.stage", 0)
    draft.set("parallel.strategy", Term(f"zero{stage}"))
    moved = [Term(word) for word, key in (("optimizer", "offload_optimizer"), ("params", "offload_param"))
             if document.get(f"zero_optimization.{key}.device", "none") not in ("none", None)]  # fmt: skip
    if moved:
        draft.set("parallel.offload", moved)
    if (tensor := document.get("tensor_parallel.autotp_size", 1)) != 1:
        draft.set("parallel.tensor", tensor)


def _named(draft: StageDraft) -> str:
    """The DeepSpeed file that accelerate's file, or its flags, name."""
    given = _accelerate(draft)
    inner = given.get("deepspeed_config")
    inner = inner if isinstance(inner, Mapping) else {}
    path = given.get("deepspeed_config_file") or inner.get("deepspeed_config_file")
    return path if isinstance(path, str) else ""


_STAGE = re.compile(r"(?:z|zero|stage|zero_?stage)[-_]?([0-3])(?![0-9])", re.I)


def _by_name(draft: StageDraft, name: str) -> None:
    """A DeepSpeed file that is missing: its name tells the ZeRO stage (`ds_z3_offload_config.json`, as LLaMA-Factory's own), or
    somebody has to."""
    match = _STAGE.search(PurePosixPath(name).name)
    if match is None:
        text = f"`{name}` does not exist: write `parallel {{ strategy = zero2 }}`, or the strategy it sets"
        draft.note("deepspeed", text)
        return
    stage = int(match[1])
    draft.reasons["deepspeed"] = f"`{name}` is not there to be read: taken by its name"
    draft.notes.append(Note("deepspeed", f"{draft.reasons['deepspeed']}, as ZeRO-{stage}", _span(draft), carried=True))
    draft.set("parallel.strategy", Term(f"zero{stage}"), "by the name of a file that does not exist")
    if "offload" in name.lower() and stage:
        draft.set("parallel.offload", [Term("optimizer"), *([Term("params")] if stage == 3 else [])])


def _span(draft: StageDraft) -> Span | None:
    setting = draft.setting("deepspeed")
    return setting.span if setting else None


def fsdp(draft: StageDraft, document: Document) -> None:
    """accelerate's `fsdp_config` (version, offload, hybrid sharding)."""
    inner = table(document, "fsdp_config")
    draft.set("parallel.strategy", Term("fsdp2" if str(inner.get("fsdp_version", 1)) == "2" else "fsdp1"))
    if inner.get("fsdp_offload_params") is True:
        draft.set("parallel.offload", [Term("optimizer"), Term("params")])
    if inner.get("fsdp_activation_checkpointing") is True:
        draft.set("memory.checkpointing", Term("full"))


def _no_fsdp(draft: StageDraft) -> None:
    """DeepSpeed and FSDP at once: no tool can do that."""
    text = "DeepSpeed and FSDP exclude each other: DeepSpeed was kept"
    draft.reasons["fsdp"] = text
    for name in ("fsdp", "fsdp_config"):
        if draft.raw(name):
            draft.note(name, text)
    if draft.config.accelerate is not None and draft.config.accelerate.get("distributed_type") == "FSDP":
        entry = draft.config.accelerate.at("distributed_type")
        draft.notes.append(Note("distributed_type: FSDP", text, entry.key or entry.span))


def _own_fsdp(draft: StageDraft) -> None:
    """transformers' own `fsdp` and `fsdp_config`."""
    given = draft.raw("fsdp")
    flags = given if isinstance(given, list) else str(given).replace(",", " ").split()
    options = draft.raw("fsdp_config")
    version = options.get("version", 1) if isinstance(options, Mapping) else 1
    draft.set("parallel.strategy", Term("fsdp2" if version == 2 else "fsdp1"))
    if "offload" in flags:
        draft.set("parallel.offload", [Term("optimizer"), Term("params")])


def mixed_precision(draft: StageDraft) -> None:
    """`accelerate launch` decides where the engine's parameters do not (transformers/training_args.py)."""
    mixed = draft.config.accelerate.get("mixed_precision") if draft.config.accelerate else None
    if not draft.training or mixed not in ("bf16", "fp16", "fp8"):
        return
    own = next((name for name in ("bf16", "fp16", "pure_bf16") if draft.config.on(name)), "")
    if mixed == "fp8" and not own and draft.config.accelerate is not None:
        at = draft.config.accelerate.at("mixed_precision")
        text = "`fp8` of accelerate: write `precision = fp8(backend = te)`, or the backend of `fp8_config`"
        draft.notes.append(Note(at.word, text, at.key or at.span))
    elif not own and not draft.given("bf16", "fp16", "pure_bf16"):
        draft.set("precision", Term(mixed))
        draft.reasons[mixed] = "set by `accelerate`"
    elif own and mixed not in own and draft.config.accelerate is not None:
        at = draft.config.accelerate.at("mixed_precision")
        draft.notes.append(Note(at.word, f"`{mixed}` has no effect: `{own}` of the engine wins", at.key or at.span))
