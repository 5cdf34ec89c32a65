"""Facts, as data, each with its source: words, engines' parameters per version, accelerators, chat templates.

Imports nothing of ftdsl; any room may ask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ftdsl.record import record

DATA = Path(__file__).parent / "data"

LLAMAFACTORY = "0.9.5"
"""The version whose facts count where a recipe names none."""

StandingKind: TypeAlias = Literal["word", "passthrough", "derived", "dead"]


@record
class Gpu:
    """An accelerator: memory sizes in GiB, compute capability (0 where there is none), what it computes in and how fast.

    `half`, `fp8_rate`, `fp32` in TFLOP/s, dense; `bandwidth` (one for each size of memory), `link` and `pcie` (one way) in
    GB/s; `power` in W.
    """

    memory: tuple[int, ...]
    capability: float
    bf16: bool
    fp8: bool
    half: float
    fp8_rate: float
    fp32: float
    bandwidth: tuple[float, ...]
    link: float
    pcie: float
    power: float
    source: str


@record
class Standing:
    """Where an engine's parameter stands: it has a `word`, is passthrough only, derived, or dead."""

    kind: StandingKind
    word: str = ""


@cache
def _load(name: str) -> Any:
    return json.loads((DATA / name).read_bytes())


@cache
def gpus() -> Mapping[str, Gpu]:
    """Accelerators by name."""
    lists = ("memory", "bandwidth")
    raw = _load("gpus.json")
    return {name: Gpu(**entry | {key: tuple(entry[key]) for key in lists}) for name, entry in raw.items()}


def models() -> Mapping[str, Mapping[str, Any]]:
    """Architectures by name: sizes, the hub ids that share them, source."""
    found: Mapping[str, Mapping[str, Any]] = _load("models.json")
    return found


def versions(engine: str) -> list[str]:
    """Versions of an engine whose parameters are known."""
    return sorted(path.stem.removeprefix(f"{engine}-") for path in DATA.glob(f"{engine}-[0-9]*.json"))


def engine_schema(engine: str, version: str = LLAMAFACTORY) -> Mapping[str, Mapping[str, Any]]:
    """The parameters of an engine: type, default, choices, help. Raises: OSError for a version that is not known."""
    schema: Mapping[str, Mapping[str, Any]] = _load(f"{engine}-{version}.json")["parameters"]
    return schema


def transformers_of(version: str) -> str:
    """The transformers that an engine's facts were read beside."""
    return str(_load(f"llamafactory-{version}.json")["transformers"])


def templates() -> list[str]:
    """Chat templates of LLaMA-Factory."""
    return list(_load(f"llamafactory-{LLAMAFACTORY}.json")["templates"])


def template_for_model(model: str) -> str | None:
    """The template of a hub id's family, from the engine's own list; sizes and dates that are not listed are guessed."""
    families: Mapping[str, str] = _load(f"llamafactory-{LLAMAFACTORY}.json")["families"]
    if model in families:
        return families[model]
    stem = model.split("-")[0]
    kin = {template for other, template in families.items() if other.split("-")[0] == stem}
    return kin.pop() if len(kin) == 1 else None


def names(catalog: str) -> list[str]:
    """All names of a catalog a key of the vocabulary refers to. Raises: KeyError."""
    if catalog == "gpus":
        return list(gpus())
    if catalog == "templates":
        return templates()
    return list(_load(f"llamafactory-{LLAMAFACTORY}.json")[catalog])


@cache
def overlay(engine: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """How an engine is told each word: table -> key -> entry."""
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = _load(f"{engine}-overlay.json")
    return tables


@cache
def _standings(engine: str) -> Mapping[str, Standing]:
    found: dict[str, Standing] = {}
    for table, entries in overlay(engine).items():
        if table.startswith("_"):
            kind: Any = table[1:]
            found |= {name: Standing(kind) for name in entries["keys"]}
    for table, entries in overlay(engine).items():
        if table.startswith("_"):
            continue
        for key, entry in entries.items():
            word = key if table in _GROUPS else f"{table}.{key}"
            for name in _told(entry):
                found.setdefault(name, Standing("word", word))
    return found


_GROUPS = ("file", "train", "dpo", "kto", "ppo", "data", "eval", "merge", "stage_quantize", "shell")


def _told(entry: Mapping[str, Any]) -> list[str]:
    """Every parameter an overlay entry writes."""
    names = [to.split(":")[0] for to in entry["to"] if "." not in to]
    names += [text.split("=")[0] for texts in entry.get("set", {}).values() for text in texts]
    return names + [name for options in entry.get("opts", {}).values() for name in options.values()]


def standing(engine: str, parameter: str) -> Standing | None:
    """Where a parameter stands, or None when the engine has none of that name."""
    return _standings(engine).get(parameter)


HATCHES = {"deepspeed": "ds.", "accelerate": "acc.", "megatron": "mca."}
"""Blocks handed on as they stand, and what the overlay calls their keys."""


def hatch_sections(block: str) -> Mapping[str, list[str]]:
    """Keys that DeepSpeed, accelerate or the mcore adapter reads, by dotted section; the top level is `""`."""
    package = "mcore-adapter" if block == "megatron" else block
    facts = _load(next(DATA.glob(f"{package}-[0-9]*.json")).name)
    sections: Mapping[str, list[str]] = facts.get("sections") or {"": list(facts["parameters"])}
    return sections


def hatch_word(engine: str, block: str, key: str) -> str | None:
    """The word of the language that decides a key of a hatch, so that the hatch may not: `zero_optimization.stage`."""
    for table, entries in overlay(engine).items():
        for name, entry in () if table.startswith("_") else entries.items():
            told = [to.partition(":")[0] for to in entry["to"]]
            if HATCHES[block] + key in told:
                return name if table in _GROUPS else f"{table}.{name}"
    return None
