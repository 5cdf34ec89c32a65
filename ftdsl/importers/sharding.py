"""DeepSpeed and accelerate files, key by key: equal, covered by a key, carried in the tool's own block, or reported.

`auto` is whatever Hugging Face fills in, which is what a recipe writes in numbers: equal. A key that is not given has the
tool's default (the catalogue knows it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ftdsl import catalog
from ftdsl.engines.jobs import Document
from ftdsl.engines.shared.parallel.accelerate import fsdp_lines
from ftdsl.importers.values import whole
from ftdsl.record import frozen

FILES = {"deepspeed": "ds_config.json", "accelerate": "accelerate.yaml"}
"""What the compiled recipe calls each block's file."""

_DERIVED = {
    "train_batch_size": "follows from `batch`", "machine_rank": "each node gets its own at its start",
    "main_process_port": "a free one is found", "same_network": "nodes reach each other by address and port",
    "rdzv_backend": "follows from `hardware.nodes`", "deepspeed_config": "follows from `parallel.strategy`",
}  # fmt: skip
_FILLED = ("optimizer.", "scheduler.")
"""Tables whose `auto` counts: Hugging Face fills in such keys, and DeepSpeed its own defaults where they are missing."""
_EMPTY: tuple[Any, ...] = (None, False, "no", "none", "", "LOCAL_MACHINE", [])


@frozen
class Leaf:
    """A key of such a file that the compiled recipe has otherwise. `carry`: the tool's own block can set it."""

    block: str
    path: str
    theirs: Any
    ours: Any
    why: str = ""
    carry: bool = False


def leaves(block: str, theirs: Mapping[str, Any], ours: Document, engine: str) -> Iterator[Leaf]:
    """Every key in which a file and the compiled one differ."""
    given = dict(_flat(theirs, block))
    made = dict(_flat(ours.data, block))
    why = {_known(block).get(path, path): reason for path, reason in getattr(ours, "why", {}).items()}
    for path in dict.fromkeys([*given, *made]):
        if path.startswith("_") or (given.get(path) == "auto" and not path.startswith(_FILLED)):
            continue
        left, right = _value(block, path, given), _value(block, path, made)
        if left != right:
            yield _leaf(engine, block, path, given, left, right, why)


def uncovered(block: str, theirs: Mapping[str, Any], engine: str) -> Iterator[Leaf]:
    """Every key of a file whose value is neither the tool's default, nor `auto`, nor covered by a key of the language."""
    given = dict(_flat(theirs, block))
    for path, value in given.items():
        if path.startswith("_") or (value == "auto" and not path.startswith(_FILLED)):
            continue
        usual = catalog.passthrough_schema(block).get(path, {}).get("default", "")
        if value == usual or catalog.passthrough_key(engine, block, path):
            continue
        if path.startswith("zero_optimization.offload_") and path.endswith((".device", ".pin_memory")):
            continue
        if value == {} or (block == "accelerate" and _is_written(path, value, given)):
            continue
        known = _is_known(block, path)
        yield Leaf(block, path, value, None, "" if known else f"{block} has no such key", carry=known)


def _is_written(path: str, value: Any, accelerate: Mapping[str, Any]) -> bool:
    """Whether accelerate's file of a recipe has the same by itself: nothing is switched on, each node's own, FSDP as always."""
    if path in _DERIVED or path.startswith("deepspeed_config.") or path in ("num_processes", "num_machines"):
        return True
    if _value("accelerate", path, {path: value}) is None or value == _ALWAYS.get(path):
        return True
    version = 2 if str(accelerate.get("fsdp_config.fsdp_version", 1)) == "2" else 1
    return any(line.path == path and line.value == value for line in fsdp_lines(version))


_ALWAYS = {"main_training_function": "main", "gpu_ids": "all", "enable_cpu_affinity": False}


def _leaf(
    engine: str, block: str, path: str, given: Mapping[str, Any], left: Any, right: Any, why: Mapping[str, str]
) -> Leaf:
    if (
        derived := next((text for key, text in _DERIVED.items() if path == key or path.startswith(f"{key}.")), None)
    ) is not None:
        return Leaf(block, path, left, right, derived)
    if path not in given:
        reason = why.get(path, "")
        return Leaf(block, path, left, right, f"follows from `{reason}`" if "." in reason else reason or "written out")
    if not _is_known(block, path):
        return Leaf(block, path, left, right, f"{block} has no such key")
    if any(key.startswith(f"{path}.") for key in catalog.passthrough_schema(block)) and not isinstance(
        given[path], Mapping
    ):
        return Leaf(block, path, left, right, f"{block} has a table there")
    word = catalog.passthrough_key(engine, block, path)
    return Leaf(block, path, given[path], right, f"set `{word}`" if word else "", carry=word is None)


def _flat(data: Mapping[str, Any], block: str, start: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        path = f"{start}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, block, f"{path}.")
        else:
            yield _known(block).get(path, path), value


@cache
def _known(block: str) -> Mapping[str, str]:
    """Other names of keys -> the one name."""
    return {
        ".".join([*path.split(".")[:-1], fact["alias"]]): path
        for path, fact in catalog.passthrough_schema(block).items()
        if fact.get("alias")
    }


def _is_known(block: str, path: str) -> bool:
    """Whether the tool reads the key; in sections with free keys, any key."""
    keys = catalog.passthrough_schema(block)
    section = path.rpartition(".")[0]
    return path in keys or (section in keys and not any(key.startswith(f"{section}.") for key in keys))


def _value(block: str, path: str, values: Mapping[str, Any]) -> Any:
    value = values[path] if path in values else catalog.passthrough_schema(block).get(path, {}).get("default")
    if isinstance(value, str):
        value = {"true": True, "false": False, "no": False}.get(value.lower(), value)
    if isinstance(value, str) and (number := whole(value)) is not None:
        value = number
    if isinstance(value, bool):
        return value or None
    if isinstance(value, int | float):
        return float(value)
    return None if value in _EMPTY else str(value)
