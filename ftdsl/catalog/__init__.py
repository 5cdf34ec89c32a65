"""Facts, as data, each with its source: words, engines' parameters per version, accelerators, chat templates.

Imports nothing of ftdsl; any room may ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ftdsl.catalog.history import (
    Fact,
    KeyHistory,
    Known,
    Pin,
    Table,
    about,
    admits,
    key_history,
    nearest,
    numbers,
    packages,
    pins,
    schema,
    table,
    versions,
)
from ftdsl.record import frozen

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from ftdsl.catalog.changes import Change, ValueChange, key_changes, older, replacement, value_changes

DATA = Path(__file__).parent / "data"

ParameterStatusKind: TypeAlias = Literal["word", "passthrough", "derived", "dead"]


@frozen
class Gpu:
    """An accelerator: memory sizes in GiB, compute capability (0 where there is none), what it computes in and how fast.

    `half`, `fp8_rate`, `fp32` in TFLOP/s, dense; `bandwidth` (one for each size of memory), `link`, `pcie` and `network`
    (one way) in GB/s; `power` in W; `reach`: the part of `half` that large matrix products reach for long, `measured`: TFLOP/s
    of the best product that somebody published. `inline_ecc`: a sixteenth of the memory keeps error correction. `cache`: MB of
    the last cache before memory. `peer`: cards of a machine read each other's memory. `aliases`: other names.
    """

    memory: tuple[int, ...]
    inline_ecc: bool
    capability: float
    bf16: bool
    fp8: bool
    half: float
    fp8_rate: float
    fp32: float
    bandwidth: tuple[float, ...]
    link: float
    pcie: float
    network: float
    power: float
    reach: float
    source: str
    measured: float = 0.0
    cache: float = 0.0
    peer: bool = True
    aliases: tuple[str, ...] = ()


@frozen
class Modules:
    """Names of an architecture's linear modules: of the language model, `experts` that are fused into parameters of three
    dimensions (an adapter for linear modules does not reach them), of what sees or hears, and of the head.

    What a configuration decides is all there: a name may be missing in one model. `text`: the language model is one of
    another type, which the configuration names.
    """

    linear: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    vision: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    text: bool = False


@frozen
class ParameterStatus:
    """Where an engine's parameter stands: it has a `word`, is passthrough only, derived, or dead."""

    kind: ParameterStatusKind
    word: str = ""


@cache
def _load(name: str) -> Any:
    return json.loads((DATA / name).read_bytes())


@cache
def gpus() -> Mapping[str, Gpu]:
    """Accelerators by name."""
    lists = ("memory", "bandwidth", "aliases")
    raw = _load("gpus.json")
    return {name: Gpu(**entry | {key: tuple(entry[key]) for key in lists}) for name, entry in raw.items()}


def prices() -> Mapping[str, float]:
    """USD an hour for one card by name, list prices (data/prices.toml tells whose)."""
    found: Mapping[str, float] = _load("prices.json")
    return found


def models() -> Mapping[str, Mapping[str, Any]]:
    """Architectures by name: sizes, the hub ids that share them, source."""
    found: Mapping[str, Mapping[str, Any]] = _load("models.json")
    return found


def smoke() -> Mapping[str, Mapping[str, Any]]:
    """What a smoke run does with each word (keep, drop, members, coded, passthrough), and which architecture stands in for
    which model (families, text_sides)."""
    found: Mapping[str, Mapping[str, Any]] = _load("smoke.json")
    return found


def faults() -> Mapping[str, Mapping[str, Any]]:
    """What engines say when a stage breaks: match, say, keys, help, code, in the order they are tried."""
    found: Mapping[str, Mapping[str, Any]] = _load("faults.json")
    return found


def misnamed() -> Mapping[str, Mapping[str, Any]]:
    """Parameters that people write and the engine has not -> what each should be (data/misnamed.toml tells the fields)."""
    found: Mapping[str, Mapping[str, Any]] = _load("misnamed.json")
    return found


def tools() -> Mapping[str, Mapping[str, Any]]:
    """Other tools that train models -> how their commands and files are known (data/tools.toml)."""
    found: Mapping[str, Mapping[str, Any]] = _load("tools.json")
    return found


def written() -> Mapping[str, Mapping[str, Any]]:
    """`write`: parameter -> how a recipe writes it; `values`: parameter -> value known elsewhere -> the engine's
    (data/written.toml)."""
    found: Mapping[str, Mapping[str, Any]] = _load("written.json")
    return found


@cache
def engine_schema(engine: str, version: str = "", transformers: str = "") -> Mapping[str, Fact]:
    """Every parameter an engine takes: its own, and those of the TrainingArguments beside it.

    Without versions those of the newest engine that is known, and of the newest transformers that it admits. {} for an engine
    whose parameters are not kept by version.
    """
    if not versions(engine):
        return {}
    version = version or newest(engine)
    beside = schema("transformers", transformers or beside_engine(engine, version, "transformers"))
    return {**beside, **schema(engine, version)}


def newest(package: str) -> str:
    """The newest version of a package that is known. Raises: IndexError."""
    return versions(package)[-1]


def beside_engine(engine: str, version: str, package: str) -> str:
    """The newest known version of a package that an engine's metadata and checks admit; "" when it names none."""
    pin = pins(engine, version).get(package)
    return pin.newest if pin else ""


def templates(engine: str, version: str = "") -> list[str]:
    """Chat templates that an engine brings; [] where it has no list of its own."""
    return list(schema(engine, version, "templates")) if versions(engine) else []


def listed(engine: str, model: str, version: str = "") -> bool:
    """Whether an engine's own list of models has this hub id."""
    return model in schema(engine, version, "models")


@cache
def template_for_model(engine: str, model: str, version: str = "") -> str | None:
    """The template of a model's family, from an engine's own list; the model is a hub id or a folder.

    An id that is not listed counts by its name: copies by others, in other precisions, under an organisation's new name
    (`meta-llama/Llama-3.1-8B` was `Meta-Llama-3.1-8B`); then other sizes; then an organisation's family of one template.
    """
    families: Mapping[str, Any] = schema(engine, version, "models")
    if families.get(model):
        return str(families[model])
    for alike in (_model_name, _without_size, _organisation_and_family):
        wanted = alike(model)
        kin = {str(template) for other, template in families.items() if template and alike(other) == wanted}
        if len(kin) == 1:
            return kin.pop()
    return None


def _model_name(model: str) -> str:
    name = model.rstrip("/").rpartition("/")[2].lower().removeprefix("meta-")
    return _PRECISIONS.sub("", name)


_PRECISIONS = re.compile(r"(?:-unsloth)?(?:-(?:bnb-4bit|awq|gptq|fp8|int4|int8|bf16|gguf|hf))+$")
_SIZE = re.compile(r"-(?:[ae]?\d+(?:\.\d+)?[bm]|\d+x\d+b)(?=-|$)")


def _without_size(model: str) -> str:
    return _SIZE.sub("", _model_name(model))


def _organisation_and_family(model: str) -> str:
    return model.partition("-")[0]


def modules(model_type: str, version: str = "") -> Modules | None:
    """The modules of an architecture (`qwen3_moe`) in a version of transformers; None when nothing is known of it.

    Known from 4.55 on. Source: transformers' modeling sources (ftdsl/catalog/extract/architectures.py).
    """
    fact = schema("transformers", version, "architectures").get(model_type)
    if fact is None:
        return None
    linear, experts, vision, head = (tuple(fact.get(kind, ())) for kind in ("linear", "experts", "vision", "head"))
    return Modules(linear, experts, vision, head, "text" in fact)


def default_targets(model_type: str, version: str = "") -> list[str]:
    """What a version of PEFT puts LoRA on where nothing is said; [] when it knows no answer and asks for one.

    Source: peft/utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.
    """
    return list(schema("peft", version, "targets").get(model_type, ()))


def names(catalog: str) -> list[str]:
    """All names of a catalog a key of the vocabulary refers to, of any version: which one has a name is the engine's to
    say. Raises: KeyError."""
    if catalog == "gpus":
        return list(gpus())
    if catalog == "engines":
        return list(dict.fromkeys([*known_engines(), *engine_entry_points()]))
    if catalog == "templates":
        return list(dict.fromkeys(name for engine in built_in_engines() for name in table(engine, "templates").names))
    package, kind, prefix = _NAMES[catalog]
    return [name.removeprefix(prefix) for name in table(package, kind).names if name.startswith(prefix)]


_NAMES = {"optimizers": ("transformers", "enums", "OptimizerNames.")}

ENGINE_ENTRY_POINTS = "ftdsl.engines"
"""The group of entry points by which another package brings an engine (`ftdsl.engines.registry`)."""

_registered: dict[str, Mapping[str, Mapping[str, Any]]] = {}


@cache
def built_in_engines() -> tuple[str, ...]:
    """Engines whose overlay is part of this package."""
    return tuple(sorted(path.name.removesuffix(_OVERLAY) for path in DATA.glob(f"*{_OVERLAY}")))


_OVERLAY = "-overlay.json"


@cache
def engine_entry_points() -> Mapping[str, EntryPoint]:
    """Engines that installed packages bring, by name. Looks through all installed packages: asked for last."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENGINE_ENTRY_POINTS)}


def known_engines() -> tuple[str, ...]:
    """Engines that are built in or were registered: those whose tables can be read here."""
    return tuple(dict.fromkeys([*built_in_engines(), *_registered]))


def register_engine(name: str, overlay: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the tables of an engine from elsewhere known, as if they were part of this package."""
    _registered[name] = overlay
    _parameter_statuses.cache_clear()


def forget_engine(name: str) -> None:
    """Take back what `register_engine` did."""
    _registered.pop(name, None)
    _parameter_statuses.cache_clear()


def facts(table: str) -> Mapping[str, Any]:
    """What engines accept beyond their schemas: a table of facts.toml. Raises: KeyError."""
    found: Mapping[str, Any] = _load("facts.json")[table]
    return found


def overlay(engine: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """How an engine is given each key: table -> key -> entry. Raises: FileNotFoundError for an engine that is not known."""
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = _registered.get(engine) or _load(f"{engine}{_OVERLAY}")
    return tables


def reasons(engine: str) -> Mapping[str, Mapping[str, str]]:
    """Why a line is there that no key decides: of each `file`, `parameter`, launch `word` and `variable`."""
    name = (
        engine if engine not in _registered else built_in_engines()[0]
    )  # what the shared rooms write has the same reasons
    tables: Mapping[str, Mapping[str, str]] = _load(f"{name}-reasons.json")
    return tables


@cache
def _parameter_statuses(engine: str) -> Mapping[str, ParameterStatus]:
    found: dict[str, ParameterStatus] = {}
    for block, entries in overlay(engine).items():
        if block.startswith("_"):
            kind: Any = block[1:]
            found |= {name: ParameterStatus(kind) for name in entries["keys"]}
    for block, entries in overlay(engine).items():
        if block.startswith("_"):
            continue
        for key, entry in entries.items():
            word = key if block in _GROUPS else f"{block}.{key}"
            for name in told(entry):
                found.setdefault(name, ParameterStatus("word", word))
    return found


_GROUPS = ("file", "train", "dpo", "kto", "ppo", "data", "eval", "merge", "stage_quantize", "shell")


def told(entry: Mapping[str, Any]) -> list[str]:
    """Every parameter an overlay entry writes."""
    names = [to.split(":")[0] for to in entry["to"] if "." not in to]
    names += [text.split("=")[0] for texts in entry.get("set", {}).values() for text in texts]
    return names + [name for options in entry.get("opts", {}).values() for name in options.values()]


def parameter_status(engine: str, parameter: str) -> ParameterStatus | None:
    """Where a parameter stands, or None when the engine has none of that name."""
    return _parameter_statuses(engine).get(parameter)


def keys_of_parameter(parameter: str) -> list[str]:
    """Keys of the language that decide a parameter of any engine."""
    found = [parameter_status(engine, parameter) for engine in known_engines()]
    return list(dict.fromkeys(status.word for status in found if status and status.word))


PASSTHROUGH = {"deepspeed": "ds.", "accelerate": "acc.", "megatron": "mca."}
"""Blocks handed on as they stand, and what the overlay calls their keys."""


def passthrough_key(engine: str, block: str, key: str) -> str | None:
    """The word of the language that decides a key of a hatch, so that the hatch may not: `zero_optimization.stage`."""
    for group, entries in overlay(engine).items():
        for name, entry in () if group.startswith("_") else entries.items():
            told = [to.partition(":")[0] for to in entry["to"]]
            if PASSTHROUGH[block] + key in told:
                return name if group in _GROUPS else f"{group}.{name}"
    return None


def passthrough_schema(block: str, version: str = "") -> Mapping[str, Fact]:
    """Keys that DeepSpeed, accelerate or the mcore adapter reads, by dotted path, in a version (the newest without one)."""
    if block == "deepspeed":
        return schema("deepspeed", version)
    if block == "megatron":
        names: Mapping[str, Fact] = _load("mcore-adapter.json")["names"]
        return names
    flags = schema("accelerate", version, "launch")
    inside = {f"{section}.{flag}": fact for section, start in _SECTIONS.items() for flag, fact in flags.items()
              if flag.startswith(start)}  # fmt: skip
    return {**schema("accelerate", version), **inside}


_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "fsdp_config": ("fsdp_",),
    "parallelism_config": ("parallelism_config_",),
    "deepspeed_config": ("zero", "offload", "gradient", "deepspeed"),
}
"""Sections of accelerate's file, and how the flags begin that they stand for: it takes any key there without a word."""


def __getattr__(name: str) -> Any:
    """What became of keys is asked for where something is wrong or old: a check that is fine does not load it."""
    if name in ("Change", "ValueChange", "key_changes", "older", "replacement", "value_changes"):
        from ftdsl.catalog import changes

        return getattr(changes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Change", "Fact", "KeyHistory", "Known", "Pin", "Table", "ValueChange", "about", "admits", "key_changes",
    "key_history", "nearest", "numbers", "older", "packages", "pins", "replacement", "schema", "table", "value_changes",
    "versions",
]  # fmt: skip
"""What other modules of the catalogue hold; what is defined here is open anyway."""
