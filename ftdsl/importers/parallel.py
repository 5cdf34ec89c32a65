"""How processes start, read backwards: launcher, cards, nodes; DeepSpeed and accelerate files as `parallel { }`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ftdsl.importers.said import Note, Said
from ftdsl.importers.values import whole
from ftdsl.language.values import Range, Term
from ftdsl.lint.config import Document

MEGATRON = {"tensor_model_parallel_size": "tensor", "pipeline_model_parallel_size": "pipeline",
            "context_parallel_size": "context", "expert_model_parallel_size": "expert"}  # fmt: skip

_ON = ("1", "true", "True")


def hardware(said: Said) -> None:
    """Cards and nodes as the launcher has them; a file alone does not say, so one card is assumed and said."""
    if said.kind == "merge":
        return  # done on the CPU
    if said.kind == "quantize" and said.config.value("export_device") == "cpu":
        said.say("hardware.gpu", Term("none"))
        return
    processes, nodes = _processes(said), _nodes(said)
    devices = said.env("CUDA_VISIBLE_DEVICES") or said.env("ASCEND_RT_VISIBLE_DEVICES")
    cards = [number for card in devices.split(",") if (number := whole(card.strip())) is not None]
    if said.on("use_cpu") or devices == "-1" or _accelerate(said).get("use_cpu") is True:
        said.say("hardware.gpu", Term("none"))
    else:
        said.say("hardware.gpu", Term("auto"), "which card? the plan can do more when it knows: h100(80GB), rtx4090, …")
    count = processes or len(cards) or _at_least(said)
    said.say("hardware.count", count, "" if processes or cards else "as many as the engine sees: write how many")
    if nodes != 1:
        said.say("hardware.nodes", nodes)
    if cards and cards != list(range(len(cards))):
        said.say("hardware.devices", cards)


def _at_least(said: Said) -> int:
    """Megatron splits a model over so many cards; experts are spread over its data-parallel ranks."""
    return math.prod(_count(said.config.number(name), 1) for name in MEGATRON)


def _count(value: Any, other: int) -> int:
    """A number of processes or machines; `other` for what cannot be one."""
    return int(value) if isinstance(value, int | float) and 1 <= value < _MANY else other


_MANY = 10**6
"""More than anybody has."""


def _accelerate(said: Said) -> Mapping[str, Any]:
    return said.config.accelerate.data if said.config.accelerate else {}


def _processes(said: Said) -> int:
    """Processes of one node, 0 when nothing says."""
    workers = said.raw("ray_num_workers")
    if number := _count(workers, 0):
        return number
    launch = said.config.launch
    if launch and launch.processes:
        return launch.processes
    return _count(_accelerate(said).get("num_processes"), 0) // _machines(said)


def _nodes(said: Said) -> Any:
    low, high = said.env("MIN_NNODES"), said.env("MAX_NNODES")
    if (least := whole(low)) is not None and (most := whole(high)) is not None:
        return Range(least, most)
    if said.config.launch and said.config.launch.nodes > 1:
        return said.config.launch.nodes
    return _machines(said)


def _machines(said: Said) -> int:
    return _count(_accelerate(said).get("num_machines"), 1)


def launcher(said: Said) -> None:
    """Only what differs from what a recipe does of itself: torchrun, and accelerate for FSDP."""
    launch = said.config.launch
    kind = launch.launcher if launch else ""
    if said.given("ray_num_workers") or said.env("USE_RAY") in _ON:
        kind = "ray"
        asked = said.raw("ray_init_kwargs")
        for name, value in (asked.get("runtime_env") or {}).items() if isinstance(asked, Mapping) else ():
            said.say(f"launch.runtime_env.{name}", value)
    sharded = said.values.get("parallel.strategy")
    natural = {"", "python", "torchrun"} | (
        {"accelerate"} if isinstance(sharded, Term) and "fsdp" in sharded.name else set()
    )
    if kind not in natural:
        said.say("launch.with", Term(kind))


def rendezvous(said: Said) -> None:
    """Address and port of the first node, and restarts."""
    given = _accelerate(said)
    head = said.env("MASTER_ADDR") or given.get("main_process_ip") or said.raw("master_addr")
    port = said.env("MASTER_PORT") or given.get("main_process_port") or said.raw("master_port")
    if head:
        said.say("launch.head", str(head))
    if port and (number := whole(str(port))) is not None:
        said.say("launch.port", number)
    retries = said.env("MAX_RESTARTS")
    if times := whole(retries):
        said.say("launch.retries", times)


def strategy(said: Said) -> None:
    """Who shards what. DeepSpeed and FSDP at once cannot run, so DeepSpeed is kept and the other is named."""
    config = said.config
    megatron = _megatron(said)
    if megatron:
        return
    told = "parallel.strategy" in said.values
    if said.given("deepspeed") or config.deepspeed is not None or told:
        if not told:
            _deepspeed(said, config.deepspeed)
        _no_fsdp(said)
        return
    if config.accelerate is not None and config.accelerate.get("distributed_type") == "FSDP":
        fsdp(said, config.accelerate)
    elif said.raw("fsdp"):
        _own_fsdp(said)


def table(document: Document, name: str) -> Mapping[str, Any]:
    """A table of a file; empty where something else stands there."""
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def alone(said: Said) -> None:
    """What DeepSpeed and accelerate files say by themselves."""
    strategy(said)
    if said.config.accelerate is not None:
        hardware(said)
        rendezvous(said)
    document = said.config.deepspeed
    if document is None:
        return
    for path, word in _BATCH.items():
        if isinstance(value := document.get(path), int | float):
            said.say(word, value)
    for name in ("bf16", "fp16"):
        if document.get(f"{name}.enabled") is True:
            said.say("precision", Term(name))


_BATCH = {"train_batch_size": "batch.global", "train_micro_batch_size_per_gpu": "batch.micro",
          "gradient_accumulation_steps": "batch.accumulate", "gradient_clipping": "optim.clip"}  # fmt: skip


def _megatron(said: Said) -> bool:
    bridge = said.env("USE_MEGATRON_BRIDGE") in _ON
    said.used.add("use_mca")
    if not bridge and said.env("USE_MCA") not in _ON and not said.given(*MEGATRON):
        return False
    said.say("parallel.strategy", Term("megatron", {"bridge": True} if bridge else {}))
    for name, word in MEGATRON.items():
        if (value := said.raw(name)) is not None and (value != 1 or word in ("tensor",)):
            said.say(f"parallel.{word}", value)
    if said.given("sequence_parallel"):
        said.say("parallel.sequence", said.raw("sequence_parallel"))
    granularity = said.raw("recompute_granularity")  # silent: the adapter recomputes nothing
    said.say("memory.checkpointing", Term(granularity if granularity in ("full", "selective") else "none"))
    return True


def _deepspeed(said: Said, document: Document | None) -> None:
    """A DeepSpeed file in three words (stage, offload, tensor); its other keys are named."""
    said.used.add("deepspeed")
    if document is None:
        said.note("deepspeed", f"`{said.raw('deepspeed')}` could not be read: `zero2` is assumed")
        said.say("parallel.strategy", Term("zero2"), "the DeepSpeed file was not there to be read")
        return
    stage = document.get("zero_optimization.stage", 0)
    said.say("parallel.strategy", Term(f"zero{stage}"))
    moved = [Term(word) for word, key in (("optimizer", "offload_optimizer"), ("params", "offload_param"))
             if document.get(f"zero_optimization.{key}.device", "none") not in ("none", None)]  # fmt: skip
    if moved:
        said.say("parallel.offload", moved)
    if (tensor := document.get("tensor_parallel.autotp_size", 1)) != 1:
        said.say("parallel.tensor", tensor)


def fsdp(said: Said, document: Document) -> None:
    """accelerate's `fsdp_config` (version, offload, hybrid sharding)."""
    inner = table(document, "fsdp_config")
    said.say("parallel.strategy", Term("fsdp2" if str(inner.get("fsdp_version", 1)) == "2" else "fsdp1"))
    if inner.get("fsdp_offload_params") is True:
        said.say("parallel.offload", [Term("optimizer"), Term("params")])
    if inner.get("fsdp_activation_checkpointing") is True:
        said.say("memory.checkpointing", Term("full"))


def _no_fsdp(said: Said) -> None:
    """DeepSpeed and FSDP at once: no tool can do that."""
    text = "DeepSpeed and FSDP exclude each other: DeepSpeed was kept"
    said.reasons["fsdp"] = text
    for name in ("fsdp", "fsdp_config"):
        if said.raw(name):
            said.note(name, text)
    if said.config.accelerate is not None and said.config.accelerate.get("distributed_type") == "FSDP":
        place = said.config.accelerate.at("distributed_type")
        said.notes.append(Note("distributed_type: FSDP", text, place.key or place.span))


def _own_fsdp(said: Said) -> None:
    """transformers' own `fsdp` and `fsdp_config`."""
    given = said.raw("fsdp")
    words = given if isinstance(given, list) else str(given).replace(",", " ").split()
    options = said.raw("fsdp_config")
    version = options.get("version", 1) if isinstance(options, Mapping) else 1
    said.say("parallel.strategy", Term("fsdp2" if version == 2 else "fsdp1"))
    if "offload" in words:
        said.say("parallel.offload", [Term("optimizer"), Term("params")])
