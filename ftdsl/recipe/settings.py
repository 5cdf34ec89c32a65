"""The settings of a stage, read by dotted key: what the recipe says, else the language's default.

Light on purpose: `ftc check` reads thousands of keys and must not pay for building pydantic models. The same values go
through the models of `recipe.models` before anything is compiled (`recipe.validate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.language.values import Amount, Range, Script, Secret, StageRef, Term
from ftdsl.recipe.defaults import DEFAULTS
from ftdsl.record import mutable

METHODS = ("full", "freeze", "lora", "oft", "adapter", "prefix")
_ON_DEMAND = (*METHODS, "quantize")
"""Blocks whose absence means something: without them their keys have no value, not even a default."""


@mutable
class Settings:
    """`kind` is a stage kind or a block's name; `values` by dotted key; `blocks` are those that were written."""

    kind: str
    values: Mapping[str, Any]
    blocks: frozenset[str] = frozenset()

    def get(self, key: str) -> Any:
        """The value of a key (`optim.lr`), its default, or None."""
        if key in self.values:
            return self.values[key]
        block, dot, name = key.rpartition(".")
        if not dot:
            return DEFAULTS.get(self.kind, {}).get(key)
        return DEFAULTS.get(block, {}).get(name) if self.has(block) else None

    def has(self, block: str) -> bool:
        """Whether a block counts: written, or one that every stage of the kind has."""
        return block in self._written or (block not in _ON_DEMAND and self.may_have(block))

    @cached_property
    def _written(self) -> frozenset[str]:
        """Blocks that were opened, or have a key set."""
        return self.blocks | {key.rpartition(".")[0] for key in self.values}

    def may_have(self, block: str) -> bool:
        """Whether stages of this kind can have the block at all; a table that is a value (`launch.runtime_env`) is none."""
        vocab = vocabulary()
        return block in vocab and self.kind in vocab.block(block).contexts

    def inside(self, block: str) -> dict[str, Any]:
        """What was written in a block, by the names there: for open blocks such as `llamafactory { }`."""
        start = f"{block}."
        return {key.removeprefix(start): value for key, value in self.values.items() if key.startswith(start)}

    def items(self, key: str) -> list[Any]:
        """The values at a key that takes one or several; empty when unset."""
        value = self.get(key)
        return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]

    def name(self, key: str) -> str:
        """The name of the member at a key; a text as it is; "" when unset."""
        value = self.get(key)
        return value.name if isinstance(value, Term) else str(value or "")

    def names(self, key: str) -> list[str]:
        """The names of the members at a key that takes one or several."""
        return [str(getattr(item, "name", item)) for item in self.items(key)]

    def with_values(self, values: Mapping[str, Any], blocks: frozenset[str] = frozenset()) -> Settings:
        """A copy with these values on top."""
        return Settings(self.kind, {**self.values, **values}, self.blocks | blocks)

    def nested(self) -> dict[str, Any]:
        """`{"optim": {"lr": 1e-4}}`; a block that was written but is empty becomes `{}`."""
        tree: dict[str, Any] = {}
        for block in self.blocks:
            _inner(tree, block.split("."))
        for key, value in self.values.items():
            *blocks, name = key.split(".")
            _inner(tree, blocks)[name] = value
        return tree


def _inner(tree: dict[str, Any], blocks: list[str]) -> dict[str, Any]:
    for block in blocks:
        tree = tree.setdefault(block, {})
    return tree


_UNNAMED = frozenset({"id", "path", "memory", "version", "n", "url", "value", "share", "where"})
"""Options that people write without their name: `hf("org/model")`, `a100(80GB)`, `last(2)`."""


def _option(name: str, value: Any) -> str:
    if name == "memory" and isinstance(value, int | float):
        return f"{value / 1e9:g}GB"
    text = f'"{value}"' if isinstance(value, str) else shown(value)
    return text if name in _UNNAMED else f"{name} = {text}"


def shown(value: Any) -> str:
    """A value as a person would write it."""
    if isinstance(value, Term):
        inner = ", ".join(_option(name, option) for name, option in value.options.items())
        return f"{value.name}({inner})" if inner else value.name
    if isinstance(value, Amount):
        if value.unit == "share":
            return f"{value.number * 100:g}%"
        unit = value.unit.removesuffix("s") if value.number == 1 and len(value.unit) > 1 else value.unit
        return f"{value.number:g}" if value.unit in ("count", "rate") else f"{value.number:g} {unit}"
    if isinstance(value, StageRef):
        return f"{value.stage}.{value.part}" if value.part else value.stage
    if isinstance(value, Range):
        return f"{shown(value.low)} .. {shown(value.high)}"
    if isinstance(value, Secret):
        return f'secret("{value.variable}")'
    if isinstance(value, Script):
        return "".join(part if isinstance(part, str) else f"{{{part.name}}}" for part in value.parts)
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")  # 1e-4, as everybody writes it
    return "null" if value is None else "true" if value is True else "false" if value is False else str(value)
