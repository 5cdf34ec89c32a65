"""The settings of a stage by dotted key: the recipe's value, else the default of the language.

Without pydantic, since `ftc check` reads thousands of keys and building models is slow. `recipe.validate` validates the same
values with the models of `recipe.models` before compilation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.language.values import Amount, Range, Script, Secret, StageRef, Term
from ftdsl.recipe.defaults import DEFAULTS
from ftdsl.record import mutable

METHODS = ("full", "freeze", "lora", "oft", "adapter", "prefix", "prompt")
_ON_DEMAND = (*METHODS, "quantize")
"""Blocks whose keys have no value, not even a default, unless the block is present."""


@mutable
class Settings:
    """`kind`: a stage kind or the name of a block; `values`: by dotted key; `blocks`: those in the recipe."""

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
        """Whether a block is in effect: in the recipe, or implicit in stages of the kind."""
        return block in self._written or (block not in _ON_DEMAND and self.may_have(block))

    @cached_property
    def _written(self) -> frozenset[str]:
        """Blocks in the recipe, or with a key set."""
        return self.blocks | {key.rpartition(".")[0] for key in self.values}

    def may_have(self, block: str) -> bool:
        """Whether stages of this kind can have the block; a table that is a value (`launch.runtime_env`) is not a block."""
        vocab = vocabulary()
        return block in vocab and self.kind in vocab.block(block).contexts

    def inside(self, block: str) -> dict[str, Any]:
        """The values set in a block, by key: for open blocks such as `llamafactory { }`."""
        start = f"{block}."
        return {key.removeprefix(start): value for key, value in self.values.items() if key.startswith(start)}

    def items(self, key: str) -> list[Any]:
        """The values of a key that takes one or several; empty if unset."""
        value = self.get(key)
        return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]

    def name(self, key: str) -> str:
        """The name of the member at a key; for a text, the text; "" if unset."""
        value = self.get(key)
        return value.name if isinstance(value, Term) else str(value or "")

    def names(self, key: str) -> list[str]:
        """The names of the members at a key that takes one or several."""
        return [str(getattr(item, "name", item)) for item in self.items(key)]

    def with_values(self, values: Mapping[str, Any], blocks: frozenset[str] = frozenset()) -> Settings:
        """A copy with these values added; they win."""
        return Settings(self.kind, {**self.values, **values}, self.blocks | blocks)

    def nested(self) -> dict[str, Any]:
        """`{"optim": {"lr": 1e-4}}`; an empty block becomes `{}`."""
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
"""Options shown without their name: `hf("org/model")`, `a100(80GB)`, `last(2)`."""


def _option(name: str, value: Any) -> str:
    if name == "memory" and isinstance(value, int | float):
        return f"{value / 1e9:g}GB"
    text = f'"{value}"' if isinstance(value, str) else shown(value)
    return text if name in _UNNAMED else f"{name} = {text}"


def shown(value: Any) -> str:
    """A value in the syntax of the language."""
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
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")  # 1e-4 instead of 1e-04
    return "null" if value is None else "true" if value is True else "false" if value is False else str(value)
