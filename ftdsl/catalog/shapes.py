"""The shape of every table of facts: which keys an entry may have, and their types. `make generate` checks the tables, so that
a misspelt key (`mxa` for `max`) is an error and never ignored.

Only the generator imports this module; the program reads the checked JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

Number: TypeAlias = int | float
Strings: TypeAlias = list[str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Key(_Strict):
    """A key or argument of vocabulary.toml (`ftdsl.catalog.vocabulary.Key`)."""

    type: str
    min: Number | None = None
    above: Number | None = None
    max: Number | None = None
    below: Number | None = None
    members: dict[str, dict[str, Key | Strings]] | None = None
    catalog: str = ""
    default: str = ""
    auto: str = ""
    doc: str = ""
    required: bool = False
    example: str = ""
    instead: dict[str, str] = Field(default_factory=dict)
    share_above: float | None = None
    share_below: float | None = None
    length: int | None = None
    powers: bool = False
    empty: bool = False


class Block(_Strict):
    """The attributes of a block or function in vocabulary.toml, besides its keys."""

    about: str = Field("", alias="_about")
    where: Strings = Field(default_factory=list, alias="_in")
    open: str = Field("", alias="_open")
    method: bool = Field(False, alias="_method")
    also: Strings = Field(default_factory=list, alias="_also")
    positional: Strings = Field(default_factory=list, alias="_positional")
    data: bool = Field(False, alias="_data")


class Gpu(_Strict):
    """An accelerator (`ftdsl.catalog.Gpu` has the units)."""

    memory: list[int]
    aliases: list[str]
    inline_ecc: bool
    capability: Number
    bf16: bool
    fp8: bool
    half: Number
    fp8_rate: Number
    fp32: Number
    bandwidth: list[Number]
    link: Number
    pcie: Number
    network: Number
    power: Number
    reach: Number
    measured: Number
    cache: Number
    peer: bool
    source: str


class Model(_Strict):
    """Sizes of an architecture (`ftdsl.estimate.architecture.Architecture`)."""

    family: str
    hub: Strings
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    params: int
    source: str
    tied: bool = False
    bias: str = ""
    gated: bool = True
    norm: str = ""
    qk_norm: bool = False
    norms: int = 0
    parallel: bool = False
    extra: int = 0
    experts: int = 0
    experts_used: int = 0
    moe_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    attention_weights: int = 0
    linear_layers: int = 0
    window: int = 0
    windowed: int = 0
    tower: int = 0
    positions: int = 0


class Change(_Strict):
    """The replacement of a parameter (data/changes.toml explains the keys)."""

    package: str
    old: str
    new: str = ""
    how: Literal["rename", "share", "pixels"] = "rename"
    values: dict[str, dict[str, Any]] | None = None
    drop: str = ""
    hand: str = ""
    deprecated: str = ""
    why: str = ""
    source: str


class ValueChange(_Strict):
    """The replacement of a value."""

    package: str
    key: str
    table: str = Field("", alias="in")
    old: str
    new: str = ""
    drop: str = ""
    why: str
    source: str


class Changes(_Strict):
    change: list[Change]
    value: list[ValueChange]


class EngineDetail(_Strict):
    """What else the text around a message tells."""

    match: str
    say: str
    help: str | None = None


class EngineError(_Strict):
    """A message of an engine, and what it means for a recipe."""

    match: str
    say: str
    keys: Strings
    help: str
    code: str = ""
    near: str = ""
    details: list[list[EngineDetail]] = Field(default_factory=list)


class Misnamed(_Strict):
    """A parameter's name that people write and the engine refuses."""

    why: str
    parameter: str = ""
    value: str | int | None = None
    word: str = ""


class Tool(_Strict):
    """Another tool that trains models: how its files and commands are known."""

    title: str
    commands: dict[str, list[str]] = {}
    modules: list[str] = []
    scripts: list[str] = []
    sure: list[str] = []
    keys: list[str] = []


class Written(_Strict):
    """How parameters are written in a recipe, and values that are known under other names."""

    write: dict[str, str]
    values: dict[str, dict[str, str]]
    instead: dict[str, dict[str, str]]


class StandIns(_Strict):
    """Named values of a key: those that work on a CPU, and the replacement of each of the others."""

    cpu: Strings
    gpu: dict[str, str] = Field(default_factory=dict)
    other: str = Field("", alias="else")
    why: str = ""


class NewestVersion(_Strict):
    package: str
    version: str
    why: str


class SmokePassthrough(_Strict):
    drop: Strings
    why: str
    keep: Strings


class Smoke(_Strict):
    """What a smoke run does with each key."""

    keep: dict[str, Strings]
    drop: dict[str, str]
    members: dict[str, StandIns]
    coded: dict[str, Strings]
    newest: dict[str, NewestVersion]
    passthrough: SmokePassthrough
    families: dict[str, str]
    seeing: dict[str, Strings]
    text_sides: dict[str, str]


class Trainer(_Strict):
    """A verb of an engine's command line, with parameters of its own."""

    config: str
    kind: str
    also: list[str] = []
    scripts: list[str] = []


class Argument(_Strict):
    """An argument of an engine's scripts."""

    type: str
    default: Any = None
    only: list[str] = []


class Facts(_Strict):
    """What engines accept beyond their schemas."""

    values: dict[str, Strings]
    bounds: dict[str, list[Number | str]]
    stages: dict[str, Strings]
    deepspeed: dict[str, Strings]
    modules: dict[str, Strings]
    templates: dict[str, Strings]
    packages: dict[str, Strings]
    depths: dict[str, Strings]
    leaf: dict[str, str]
    architectures: dict[str, Any]
    only: dict[str, str]
    least: dict[str, str]
    trainers: dict[str, dict[str, Trainer]]
    scripts: dict[str, dict[str, Argument]]
    shared_classes: dict[str, Strings]
    launch_files: dict[str, dict[str, dict[str, Any]]]
    former: dict[str, dict[str, Misnamed]]
    values_of: dict[str, dict[str, Strings]]
    training_templates: dict[str, Strings]
    words: dict[str, dict[str, str]]


class OverlayEntry(_Strict):
    """How a key maps to an engine's parameters (overlay.toml explains the fields)."""

    to: Strings
    engine: str = ""
    rule: str = ""
    by: str = ""
    members: Strings = Field(default_factory=list)
    map: dict[str, str | Number] = Field(default_factory=dict)
    set: dict[str, Strings] = Field(default_factory=dict)
    opts: dict[str, dict[str, str]] = Field(default_factory=dict)
    values: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Variant(_Strict):
    """A member of `lora.variant`: one of PEFT's adapters."""

    engine: str
    type: str
    config: str
    rank: str = ""
    alpha: str = ""
    dropout: str = ""
    fixed: dict[str, Any] = Field(default_factory=dict)
    merges: bool
    about: str


class Initialisation(_Strict):
    """A member of `lora.init`."""

    engine: str
    value: str
    about: str


class Variants(_Strict):
    variant: dict[str, Variant]
    init: dict[str, Initialisation]


class Names(_Strict):
    """A list of parameters."""

    keys: Strings


class Reasons(_Strict):
    """Reasons of lines in an engine's files that no key decides: a sentence each."""

    file: dict[str, str]
    parameter: dict[str, str]
    rows: dict[str, str]
    stage: dict[str, str]
    argument: dict[str, str]
    variable: dict[str, str]


Shape: TypeAlias = type[BaseModel]
Part: TypeAlias = tuple[str, Shape, Any]
"""(path in a file, its required shape, its value)"""


def _entries(shape: Shape) -> Callable[[Mapping[str, Any]], Iterator[Part]]:
    """Every table of the file has the same shape."""
    return lambda tables: ((name, shape, entry) for name, entry in tables.items())


def _whole(shape: Shape) -> Callable[[Mapping[str, Any]], Iterator[Part]]:
    return lambda tables: iter([("", shape, tables)])


def _vocabulary(tables: Mapping[str, Any]) -> Iterator[Part]:
    """A table per block, an entry per key; entries with `_` are attributes of the block. Functions have a table per use."""
    blocks = {name: table for name, table in tables.items() if name != "function"}
    uses = {
        f"function.{name}.{use}": table for name, by_use in tables["function"].items() for use, table in by_use.items()
    }
    for name, table in {**blocks, **uses}.items():
        yield name, Block, {key: value for key, value in table.items() if key.startswith("_")}
        yield from ((f"{name}.{key}", Key, entry) for key, entry in table.items() if not key.startswith("_"))


def _overlay(tables: Mapping[str, Any]) -> Iterator[Part]:
    for name, table in tables.items():
        if name.startswith("_"):
            yield name, Names, table
        else:
            yield from ((f"{name}.{key}", OverlayEntry, entry) for key, entry in table.items())


_PARTS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Part]]] = {
    "vocabulary.toml": _vocabulary,
    "gpus.toml": _entries(Gpu),
    "changes.toml": _whole(Changes),
    "models.toml": _entries(Model),
    "prices.toml": _whole(RootModel[dict[str, Number]]),
    "faults.toml": _entries(EngineError),
    "misnamed.toml": _entries(Misnamed),
    "tools.toml": _entries(Tool),
    "written.toml": _whole(Written),
    "smoke.toml": _whole(Smoke),
    "facts.toml": _whole(Facts),
    "variants.toml": _whole(Variants),
    "overlay.toml": _overlay,
    "reasons.toml": _whole(Reasons),
}


def problems(source: Path, tables: Mapping[str, Any]) -> Iterator[str]:
    """The errors in a table of facts: `vocabulary.toml: lora.rank.mxa: …`. A file without a shape is an error too."""
    parts = _PARTS.get(source.name)
    if parts is None:
        yield f"{source.name}: has no shape in ftdsl/catalog/shapes.py"
        return
    for prefix, shape, value in parts(tables):
        try:
            shape.model_validate(value)
        except ValidationError as error:
            for detail in error.errors():
                path = ".".join(filter(None, [prefix, *map(str, detail["loc"])]))
                yield f"{source.name}: {path}: {detail['msg'].lower()}"
