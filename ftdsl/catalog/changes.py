"""Replacements of keys and values that later versions removed: `data/changes.toml`, each with its source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ftdsl.record import frozen

DATA = Path(__file__).parent / "data"

How: TypeAlias = Literal["rename", "share", "pixels"]


@frozen
class Change:
    """The replacement of a key.

    new: a key with the same value, or a value converted as `how` says; values: value -> keys and values that replace it;
    drop: a sentence, if nothing replaces the key; hand: a sentence, if the user must decide; deprecated: since which version.
    """

    package: str
    old: str
    source: str
    new: str = ""
    how: How = "rename"
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    drop: str = ""
    hand: str = ""
    deprecated: str = ""
    why: str = ""

    def becomes(self, value: Any) -> dict[str, Any] | None:
        """The equivalent keys and values now; {} if nothing is needed, None if the user must decide."""
        if self.drop:
            return {}
        if self.values:
            replacement = self.values.get(_word(value))
            return None if replacement is None else dict(replacement)
        if not self.new:
            return None
        if self.how == "share":
            return _share(self.new, value)
        if self.how == "pixels":
            return {self.new: value * value if isinstance(value, int) and value < SIDE else value}
        return {self.new: value}

    def was(self, value: Any) -> dict[str, Any] | None:
        """The inverse, for a version that has the old key: the old value for a value of `new`; None if there is none."""
        if self.values:
            return next(
                ({self.old: json.loads(old)} for old, becomes in self.values.items() if self.new_of(becomes) == value),
                None,
            )
        if self.how == "share":
            return {self.old: value} if isinstance(value, float) and 0 < value < 1 else None
        return {self.old: value} if self.new else None

    def new_of(self, becomes: Mapping[str, Any]) -> Any:
        """The single value in a table of `values`, if there is only one."""
        return next(iter(becomes.values())) if len(becomes) == 1 else None

    @property
    def targets(self) -> frozenset[str]:
        """Every key that it may write."""
        return frozenset(name for becomes in self.values.values() for name in becomes) | (
            {self.new} if self.new else set()
        )


@frozen
class ValueChange:
    """The replacement of a value of a key. table: where the values of each version are listed."""

    package: str
    key: str
    old: str
    new: str
    table: str
    why: str
    source: str


SIDE = 10_000
"""A smaller number is the side of an image in pixels, a larger one its number of pixels."""


@cache
def _all() -> tuple[Mapping[tuple[str, str], Change], tuple[ValueChange, ...]]:
    raw = json.loads((DATA / "changes.json").read_bytes())
    keys = {(entry["package"], entry["old"]): Change(**entry) for entry in raw["change"]}
    values = tuple(ValueChange(table=entry.pop("in"), **entry) for entry in raw["value"])
    return keys, values


def key_changes(package: str) -> list[Change]:
    """All changes of a package's keys."""
    return [change for (name, _), change in _all()[0].items() if name == package]


def replacement(package: str, key: str) -> Change | None:
    """The replacement of a key, if known."""
    return _all()[0].get((package, key))


def older(package: str, key: str) -> list[Change]:
    """Changes that lead to a key: its equivalents in older versions."""
    return [change for change in key_changes(package) if key in change.targets]


def value_changes(package: str, key: str) -> list[ValueChange]:
    """Replacements of values of a key."""
    return [change for change in _all()[1] if (change.package, change.key) == (package, key)]


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _share(new: str, value: Any) -> dict[str, Any] | None:
    try:
        share = float(value)
    except (TypeError, ValueError):
        return None
    if share == 0:
        return {}
    return {new: share} if 0 < share < 1 else None
