"""The vocabulary of the language, loaded from `data/vocabulary.json` (generated from `vocabulary.toml`, which is the source).

Objects are built on first use: a recipe of twenty keys builds twenty keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ftdsl.record import frozen

DATA = Path(__file__).parent / "data"

STAGE_KINDS = (
    "data",
    "pretrain",
    "sft",
    "reward",
    "dpo",
    "kto",
    "ppo",
    "grpo",
    "distill",
    "eval",
    "merge",
    "quantize",
    "shell",
)
TRAINING = ("pretrain", "sft", "reward", "dpo", "kto", "ppo", "grpo", "distill")


ANY_NAME = "*"
"""The member whose options apply to all names of a key's catalogue: `h100(80GB)`, `llamafactory("0.9.5")`."""


@frozen
class Key:
    """A key or argument: its type as written in the vocabulary, bounds in base units, members if any.

    share_above, share_below: excluded bounds of a share, where it may be none or all; every share is of 0% to 100%.
    length: how many items the list has; empty: a text without letters means something;
    powers: it counts tokens, mostly in powers of two.
    instead: members that people know from elsewhere and that are none here, with what to write.
    """

    name: str
    type: str
    min: float | None = None
    above: float | None = None
    max: float | None = None
    below: float | None = None
    share_above: float | None = None
    share_below: float | None = None
    length: int | None = None
    powers: bool = False
    empty: bool = False
    members: Mapping[str, Member] | None = None
    catalog: str = ""
    default: str = ""
    auto: str = ""
    doc: str = ""
    required: bool = False
    example: str = ""
    instead: Mapping[str, str] = field(default_factory=dict)


@frozen
class Member:
    """A member of a closed set. positional: options that may be given without a name."""

    name: str
    options: Mapping[str, Key] = field(default_factory=dict)
    positional: tuple[str, ...] = ()


@frozen
class BlockWords:
    """A block (or a group of keys). contexts: where it is allowed; method: whether it is a method; open: the type of its free
    keys, or "".
    """

    name: str
    raw: Mapping[str, Any]

    @property
    def about(self) -> str:
        return str(self.raw.get("_about", ""))

    @cached_property
    def contexts(self) -> frozenset[str]:
        named = self.raw.get("_in", ())
        return frozenset(kind for name in named for kind in (TRAINING if name == "training" else (name,)))

    @property
    def method(self) -> bool:
        return bool(self.raw.get("_method"))

    @property
    def open(self) -> str:
        return str(self.raw.get("_open", ""))

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        return {name: _key(name, raw) for name, raw in self.raw.items() if not name.startswith("_")}


@frozen
class Function:
    """A function for one use: `hf` for a model has other arguments than `hf` for data."""

    name: str
    use: str
    options: Mapping[str, Key]
    positional: tuple[str, ...]


class Vocabulary:
    """All blocks, keys and functions. Raises: KeyError for a block that does not exist."""

    stage_kinds = STAGE_KINDS

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self._blocks: dict[str, BlockWords] = {}

    def __contains__(self, block: str) -> bool:
        return block in self._raw

    def block(self, name: str) -> BlockWords:
        if name not in self._blocks:
            self._blocks[name] = BlockWords(name, self._raw[name])
        return self._blocks[name]

    def block_names(self) -> list[str]:
        """All blocks, stages and groups of keys."""
        return [name for name in self._raw if name != "function"]

    def keys_of(self, kind: str) -> Mapping[str, Key]:
        """Keys of a stage kind: common to all training stages, of the kind itself, and borrowed from others."""
        if kind in TRAINING:
            own = self.block(kind).keys if kind in self._raw else {}
            return {**self.block("train").keys, **own}
        table = self.block("stage_quantize" if kind == "quantize" else kind)
        train, merge = self.block("train").keys, self.block("merge").keys
        borrowed = {name: train[name] for name in table.raw.get("_also", ())}
        if kind == "quantize":
            borrowed |= {name: merge[name] for name in ("dtype", "shards", "to", "push")}
        return {**borrowed, **table.keys}

    def blocks_in(self, context: str) -> Iterator[BlockWords]:
        """Blocks that are allowed in a stage kind, at file level ("file"), or in another block."""
        for name in self._raw:
            if "_in" in self._raw[name] and context in (block := self.block(name)).contexts:
                yield block

    @cached_property
    def functions(self) -> Mapping[str, Mapping[str, Function]]:
        """Functions by name and use."""
        return {
            name: {use: self._function(name, use, raw) for use, raw in uses.items()}
            for name, uses in self._raw["function"].items()
        }

    def _function(self, name: str, use: str, raw: Mapping[str, Any]) -> Function:
        options = {key: _key(key, entry) for key, entry in raw.items() if not key.startswith("_")}
        if raw.get("_data"):  # the options of a source are the keys of a `data` block marked with *
            keys = self.block("data").keys
            options = {**{k: v for k, v in keys.items() if v.doc.startswith("*")}, **options}
        return Function(name, use, options, tuple(raw.get("_positional", ())))


def _key(name: str, raw: Mapping[str, Any]) -> Key:
    rest = {field: value for field, value in raw.items() if field != "members"}
    members = raw.get("members")
    return Key(name=name, members=_members(members) if members is not None else None, **rest)


def _members(raw: Mapping[str, Any]) -> Mapping[str, Member]:
    return {
        name: Member(
            name,
            {key: _key(key, entry) for key, entry in options.items() if key != "_positional"},
            tuple(options.get("_positional", ())),
        )
        for name, options in raw.items()
    }


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary of the language."""
    return Vocabulary(json.loads((DATA / "vocabulary.json").read_bytes()))
