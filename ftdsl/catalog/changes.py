"""What became of keys and values that later versions have no more: `data/changes.toml`, each with its source."""

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
    """What takes the place of a key. `new` is one key with the same value (or one made of it, see `how`); `values` says
    what each value becomes; `drop` and `hand` are sentences: nothing takes its place, or only a person can tell."""

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
        """Key -> value that say the same now; {} when nothing is needed, None when only a person can tell."""
        if self.drop:
            return {}
        if self.values:
            found = self.values.get(_word(value))
            return None if found is None else dict(found)
        if not self.new:
            return None
        if self.how == "share":
            return _share(self.new, value)
        if self.how == "pixels":
            return {self.new: value * value if isinstance(value, int) and value < SIDE else value}
        return {self.new: value}

    def was(self, value: Any) -> dict[str, Any] | None:
        """The other way round, for a version that has the old key: what a value of `new` was; None when unlike."""
        if self.values:
            return next(
                ({self.old: json.loads(old)} for old, said in self.values.items() if self.new_of(said) == value), None
            )
        if self.how == "share":
            return {self.old: value} if isinstance(value, float) and 0 < value < 1 else None
        return {self.old: value} if self.new else None

    def new_of(self, said: Mapping[str, Any]) -> Any:
        """The one value a table of `values` gives, if it is one."""
        return next(iter(said.values())) if len(said) == 1 else None

    @property
    def targets(self) -> frozenset[str]:
        """Every key it may write."""
        return frozenset(name for said in self.values.values() for name in said) | ({self.new} if self.new else set())


@frozen
class ValueChange:
    """What takes the place of a value of a key; `table`: where the values of each version are kept."""

    package: str
    key: str
    old: str
    new: str
    table: str
    why: str
    source: str


SIDE = 10_000
"""A picture's side in pixels is below this, a number of pixels worth training on above it."""


@cache
def _all() -> tuple[Mapping[tuple[str, str], Change], tuple[ValueChange, ...]]:
    raw = json.loads((DATA / "changes.json").read_bytes())
    keys = {(one["package"], one["old"]): Change(**one) for one in raw["change"]}
    values = tuple(ValueChange(table=one.pop("in"), **one) for one in raw["value"])
    return keys, values


def key_changes(package: str) -> list[Change]:
    """All changes of a package's keys."""
    return [change for (name, _), change in _all()[0].items() if name == package]


def replacement(package: str, key: str) -> Change | None:
    """What became of a key, if anything is known."""
    return _all()[0].get((package, key))


def older(package: str, key: str) -> list[Change]:
    """Changes that a key is the new side of: how older versions say it."""
    return [change for change in key_changes(package) if key in change.targets]


def value_changes(package: str, key: str) -> list[ValueChange]:
    """What became of values of a key."""
    return [one for one in _all()[1] if (one.package, one.key) == (package, key)]


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
