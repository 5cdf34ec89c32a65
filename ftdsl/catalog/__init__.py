"""Facts as data, each with its source.

Given: the name of a table, package or version. Gives: the language's keys, engines' parameters by version, GPUs, prices, chat
templates. Knows: facts only; it imports nothing of ftdsl but `record`, and every package may import it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
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
    """An accelerator.

    `half`, `fp8_rate`, `fp32` in TFLOP/s, dense; `bandwidth` (one for each size of memory), `link`, `pcie` and `network`
    (one way) in GB/s; `power` in W; `reach`: the part of `half` that large matrix products reach for long, `measured`: TFLOP/s
    of the best product that somebody published. `inline_ecc`: a sixteenth of the memory keeps error correction. `cache`: MB of
    the last cache before memory. `peer`: GPUs of a machine read each other's memory. `aliases`: other names.
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
    """Names of an architecture's linear modules.

    linear: of the language model; experts: fused into parameters of three dimensions (an adapter for linear modules does not
    reach them); vision: of the vision and audio towers; head: of the head; text: whether the configuration names another
    architecture for the language model. All names that a configuration can lead to are listed, so one model may lack some.
    """

    linear: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    vision: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    text: bool = False


@frozen
class ParameterStatus:
    """How a recipe sets an engine's parameter: by a key of the language (`word`), by passthrough only, not at all since it is
    derived from the recipe, or not at all since it has no effect (dead)."""

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
    """List price of one GPU in USD per hour, by name (data/prices.toml has the sources)."""
    prices: Mapping[str, float] = _load("prices.json")
    return prices


def models() -> Mapping[str, Mapping[str, Any]]:
    """Architectures by name: sizes, the hub ids that share them, source."""
    models: Mapping[str, Mapping[str, Any]] = _load("models.json")
    return models


def smoke() -> Mapping[str, Mapping[str, Any]]:
    """What a smoke run does with each key (keep, drop, members, coded, passthrough), and which architecture replaces which
    model (families, text_sides)."""
    table: Mapping[str, Mapping[str, Any]] = _load("smoke.json")
    return table


def faults() -> Mapping[str, Mapping[str, Any]]:
    """Error messages of engines and their meaning: match, say, keys, help, code, in the order in which they are tried."""
    faults: Mapping[str, Mapping[str, Any]] = _load("faults.json")
    return faults


def misnamed(engine: str = "") -> Mapping[str, Mapping[str, Any]]:
    """Parameters that people write although an engine (by default the default one) lacks them -> the right one
    (data/misnamed.toml explains the fields)."""
    former: Mapping[str, Mapping[str, Mapping[str, Any]]] = facts("former")
    return former[engine] if engine in former else _load("misnamed.json")


def variants(key: str = "variant") -> Mapping[str, Mapping[str, Any]]:
    """Members of `lora.variant` (or of `lora.init`: key `init`) that are data (data/variants.toml explains the fields)."""
    table: Mapping[str, Mapping[str, Any]] = _load("variants.json")[key]
    return table


def tools() -> Mapping[str, Mapping[str, Any]]:
    """Other tools that train models -> how their commands and files are known (data/tools.toml)."""
    tools: Mapping[str, Mapping[str, Any]] = _load("tools.json")
    return tools


def written() -> Mapping[str, Mapping[str, Any]]:
    """`write`: parameter -> how a recipe writes it; `values`: parameter -> value known elsewhere -> the engine's
    (data/written.toml)."""
    tables: Mapping[str, Mapping[str, Any]] = _load("written.json")
    return tables


@lru_cache(maxsize=64)
def engine_schema(engine: str, version: str = "", transformers: str = "") -> Mapping[str, Fact]:
    """Every parameter of an engine: its own, and those of transformers' TrainingArguments.

    By default of the newest engine in the catalogue, and of the newest transformers that it admits. {} for an engine without
    a history in the catalogue.
    """
    if not versions(engine):
        return {}
    version = version or newest(engine)
    beside = schema("transformers", transformers or beside_engine(engine, version, "transformers"))
    own = schema(engine, version)
    if any("." in name for name in own):  # by class: some only override a default
        return {**_fields(own), **beside}
    return {**beside, **own}


def _fields(parameters: Mapping[str, Fact]) -> Mapping[str, Fact]:
    """Parameters known as `Class.field` by the name of the field; `classes`: those that have it."""
    fields: dict[str, Fact] = {}
    for name, fact in parameters.items():
        owner, _, field = name.rpartition(".")
        fields.setdefault(field, {**fact, "classes": []})["classes"].append(owner)
    return fields


def newest(package: str) -> str:
    """The newest version of a package in the catalogue. Raises: IndexError."""
    return versions(package)[-1]


def beside_engine(engine: str, version: str, package: str) -> str:
    """The newest known version of a package that an engine's metadata and checks admit; "" if they do not mention it."""
    pin = pins(engine, version).get(package)
    return pin.newest if pin else ""


def templates(engine: str, version: str = "") -> list[str]:
    """Chat templates of an engine; [] if it has no list of its own."""
    return list(schema(engine, version, "templates")) if _has_table(engine, "templates") else []


def _has_table(package: str, name: str) -> bool:
    return (DATA / "history" / package / f"{name}.json").exists()


@lru_cache(maxsize=64)
def chat_formats(version: str = "") -> tuple[str, Mapping[str, Fact]]:
    """(package, its chat templates with the texts around the turns); by default of the newest version.

    Source: ftdsl/catalog/extract/of_llamafactory.py, `_formats`.
    """
    package = next(name for name in built_in_engines() if _has_table(name, "formats"))
    return package, schema(package, version, "formats")


def listed(engine: str, model: str, version: str = "") -> bool:
    """Whether an engine's own list of models contains this hub id."""
    return model in _models(engine, version)


def _models(engine: str, version: str) -> Mapping[str, Any]:
    """An engine's own list of models; for one without, that of the engine whose chat templates are known."""
    if _has_table(engine, "models"):
        return schema(engine, version, "models")
    return schema(chat_formats()[0], "", "models")


@lru_cache(maxsize=512)
def template_for_model(engine: str, model: str, version: str = "") -> str | None:
    """The template of a model's family, from an engine's own list. model: a hub id or a folder.

    An unlisted id is matched by its name: copies by others, other precisions, an organisation's new name
    (`meta-llama/Llama-3.1-8B` was `Meta-Llama-3.1-8B`); then other sizes; then an organisation whose family has one template.
    """
    families: Mapping[str, Any] = _models(engine, version)
    if families.get(model):
        return str(families[model])
    for alike in (_model_name, _without_size, _organisation_and_family):
        wanted = alike(model)
        matching = {str(template) for other, template in families.items() if template and alike(other) == wanted}
        if len(matching) == 1:
            return matching.pop()
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
    """The modules of an architecture (`qwen3_moe`) in a version of transformers; None if unknown.

    Known from 4.55 on. Source: transformers' modeling sources (ftdsl/catalog/extract/architectures.py).
    """
    fact = schema("transformers", version, "architectures").get(model_type)
    if fact is None:
        return None
    linear, experts, vision, head = (tuple(fact.get(kind, ())) for kind in ("linear", "experts", "vision", "head"))
    return Modules(linear, experts, vision, head, "text" in fact)


def default_targets(model_type: str, version: str = "") -> list[str]:
    """The modules that a version of PEFT adapts by default with LoRA; [] if it has no default and requires a choice.

    Source: peft/utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.
    """
    return list(schema("peft", version, "targets").get(model_type, ()))


def names(catalog: str) -> list[str]:
    """All names of a catalogue that a key of the vocabulary refers to, of any version; the engine checks which version has a
    name. Raises: KeyError."""
    return list(dict.fromkeys(each_name(catalog)))


def each_name(catalog: str) -> Iterator[str]:
    """The same one by one, and a name may come twice: who looks for one stops before installed packages are searched (25 ms)."""
    if catalog == "gpus":
        yield from gpus()
    elif catalog == "engines":
        yield from known_engines()
        yield from engine_entry_points()
    elif catalog in ("variants", "initialisations"):
        yield from variants({"variants": "variant", "initialisations": "init"}[catalog])
    elif catalog == "templates":
        for engine in built_in_engines():
            if _has_table(engine, "templates"):
                yield from table(engine, "templates").names
    else:
        package, kind, prefix = _NAMES[catalog]
        yield from (name.removeprefix(prefix) for name in table(package, kind).names if name.startswith(prefix))


_NAMES = {"optimizers": ("transformers", "enums", "OptimizerNames.")}

ENGINE_ENTRY_POINTS = "ftdsl.engines"
"""The group of entry points for engines of other packages (`ftdsl.engines.registry`)."""

_registered: dict[str, Mapping[str, Mapping[str, Any]]] = {}


@cache
def built_in_engines() -> tuple[str, ...]:
    """Engines whose overlay is part of this package."""
    return tuple(sorted(path.name.removesuffix(_OVERLAY) for path in DATA.glob(f"*{_OVERLAY}")))


_OVERLAY = "-overlay.json"


@cache
def engine_entry_points() -> Mapping[str, EntryPoint]:
    """Engines of installed packages, by name. Searches all installed packages, so it comes last."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENGINE_ENTRY_POINTS)}


def known_engines() -> tuple[str, ...]:
    """Engines that are built in or registered: those whose tables can be read."""
    return tuple(dict.fromkeys([*built_in_engines(), *_registered]))


def register_engine(name: str, overlay: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the tables of another package's engine, as if they were part of this package."""
    _registered[name] = overlay
    _parameter_statuses.cache_clear()


def forget_engine(name: str) -> None:
    """Undo `register_engine`."""
    _registered.pop(name, None)
    _parameter_statuses.cache_clear()


def facts(table: str) -> Mapping[str, Any]:
    """A table of facts.toml: what engines accept beyond their schemas. Raises: KeyError."""
    facts: Mapping[str, Any] = _load("facts.json")[table]
    return facts


def serves(engine: str, packages: Mapping[str, str]) -> bool:
    """Whether an environment with these packages (name -> version) has the engine, in a version that is one."""
    least = facts("least").get(engine, "0")
    return engine in packages and numbers(packages[engine]) >= numbers(least)


def overlay(engine: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """How each key maps to an engine's parameters: table -> key -> entry. Raises: FileNotFoundError for an unknown engine."""
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = _registered.get(engine) or _load(f"{engine}{_OVERLAY}")
    return tables


def reasons(engine: str) -> Mapping[str, Mapping[str, str]]:
    """Reasons of lines that no key decides: by table (`file`, `parameter`, `argument`, `variable`, …) and name."""
    name = (
        engine if engine not in _registered else built_in_engines()[0]
    )  # for lines that `engines/shared` writes, a built-in engine's reasons apply too
    tables: Mapping[str, Mapping[str, str]] = _load(f"{name}-reasons.json")
    return tables


@cache
def _parameter_statuses(engine: str) -> Mapping[str, ParameterStatus]:
    statuses: dict[str, ParameterStatus] = {}
    for block, entries in overlay(engine).items():
        if block.startswith("_"):
            kind: Any = block[1:]
            statuses |= {name: ParameterStatus(kind) for name in entries["keys"]}
    for block, entries in overlay(engine).items():
        if block.startswith("_"):
            continue
        for key, entry in entries.items():
            dotted = key if block in _GROUPS else f"{block}.{key}"
            for name in parameters_of(entry):
                statuses.setdefault(name, ParameterStatus("word", dotted))
    return statuses


_GROUPS = ("file", "train", "dpo", "kto", "ppo", "grpo", "distill", "data", "eval", "merge", "stage_quantize", "shell")


def parameters_of(entry: Mapping[str, Any]) -> list[str]:
    """Every parameter that an overlay entry writes."""
    names = [to.split(":")[0] for to in entry["to"] if "." not in to or to.startswith("peft.")]
    names += [text.split("=")[0] for texts in entry.get("set", {}).values() for text in texts]
    return names + [name for options in entry.get("opts", {}).values() for name in options.values()]


def parameter_status(engine: str, parameter: str) -> ParameterStatus | None:
    """How a recipe sets a parameter; None if the engine has no parameter of that name."""
    return _parameter_statuses(engine).get(parameter)


def keys_of_parameter(parameter: str) -> list[str]:
    """Keys of the language that write a parameter of any engine."""
    statuses = [parameter_status(engine, parameter) for engine in known_engines()]
    return list(dict.fromkeys(status.word for status in statuses if status and status.word))


PASSTHROUGH = {"deepspeed": "ds.", "accelerate": "acc.", "megatron": "mca."}
"""Passthrough blocks, and the prefix of their keys in the overlay."""


def passthrough_key(engine: str, block: str, key: str) -> str | None:
    """The key of the language that sets a key of a passthrough block (`zero_optimization.stage`), which the block must not."""
    for group, entries in overlay(engine).items():
        for name, entry in () if group.startswith("_") else entries.items():
            targets = [to.partition(":")[0] for to in entry["to"]]
            if PASSTHROUGH[block] + key in targets:
                return name if group in _GROUPS else f"{group}.{name}"
    return None


def passthrough_schema(block: str, version: str = "") -> Mapping[str, Fact]:
    """Keys that DeepSpeed, accelerate or the mcore adapter reads, by dotted path, in a version (by default the newest)."""
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
"""Sections of accelerate's file, and the prefixes of their flags: accelerate silently accepts any key there."""


def __getattr__(name: str) -> Any:
    """Loads the module of changes on first use: a check without errors does not need it."""
    if name in ("Change", "ValueChange", "key_changes", "older", "replacement", "value_changes"):
        from ftdsl.catalog import changes

        return getattr(changes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Change", "Fact", "KeyHistory", "Known", "Pin", "Table", "ValueChange", "about", "admits", "key_changes",
    "key_history", "nearest", "numbers", "older", "packages", "pins", "replacement", "schema", "table", "value_changes",
    "versions",
]  # fmt: skip
"""Names from other modules of the catalogue; names defined here are public anyway."""
