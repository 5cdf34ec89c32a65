"""Packages by version: parameters, configuration keys, enums, templates, pins; and when they changed.

The facts are in `data/history/<package>/<table>.json`, extracted from the packages' own sources
(`python -m ftdsl.catalog.extract`): for each name, the versions that changed its facts (null: removed).
A table is read on first use, and reduced to the requested version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from ftdsl.record import frozen

HISTORY = Path(__file__).parent / "data" / "history"

Fact: TypeAlias = Mapping[str, Any]
"""Of a parameter: `type`, `default` (absent: it is required), `default_code` (a default that is computed), `choices`, `section`
(the class or file that has it), and if the package declares them `alias`, `deprecated`, `new_param`, `ge gt le lt`."""

MAIN = {"deepspeed": "config", "accelerate": "config"}
"""The table that has a package's keys, if it is not `parameters`."""


@frozen
class Table:
    """One kind of facts of one package. names: name -> version -> the fact from that version on (None: removed)."""

    package: str
    versions: tuple[str, ...]
    names: Mapping[str, Mapping[str, Any]]

    def at(self, version: str) -> dict[str, Any]:
        """Name -> fact in one of `versions`. Raises: ValueError."""
        last = self.versions.index(version)
        order = {version: index for index, version in enumerate(self.versions)}
        facts = {}
        for name, changes in self.names.items():
            fact = None
            for since, value in changes.items():
                if order[since] > last:
                    break
                fact = value
            if fact is not None:
                facts[name] = fact
        return facts


@frozen
class KeyHistory:
    """A key through the known versions.

    since: the first version that has it; earliest: whether that is the oldest known version, so it may be older; until: the
    version that removed it, or ""; changes: (version, fact from then on), oldest first; replaced_by: what to write instead.
    """

    key: str
    package: str
    since: str
    until: str
    earliest: bool
    changes: tuple[tuple[str, Fact], ...]
    replaced_by: str = ""

    def defaults(self) -> list[tuple[str, Any]]:
        """(version, default from then on); several if it changed."""
        defaults: list[tuple[str, Any]] = []
        for version, fact in self.changes:
            value = fact.get("default", fact.get("default_code"))
            if not defaults or defaults[-1][1] != value:
                defaults.append((version, value))
        return defaults


@frozen
class Pin:
    """An engine's requirement of another package.

    metadata: enforced by pip; check: enforced by the engine itself at run time (file: only by this part of it); the two may
    disagree; newest: the newest known version that both admit, or "".
    """

    metadata: str = ""
    check: str = ""
    extra: str = ""
    file: str = ""
    newest: str = ""


@frozen
class Known:
    """The version whose facts are used for a requested version; exact: whether it is the requested version."""

    version: str
    exact: bool


def packages() -> list[str]:
    """Packages that have a history."""
    return sorted(_versions())


@lru_cache(maxsize=64)
def table(package: str, name: str = "") -> Table:
    """A table of a package, by default that of its keys. Raises: OSError if there is none."""
    raw = json.loads((HISTORY / package / f"{name or MAIN.get(package, 'parameters')}.json").read_bytes())
    return Table(package, versions(package), raw["names"])


def versions(package: str) -> tuple[str, ...]:
    """Known versions of a package, oldest first; empty for an unknown package."""
    return tuple(_versions().get(package, ()))


@cache
def _versions() -> Mapping[str, list[str]]:
    versions: Mapping[str, list[str]] = json.loads((HISTORY / "versions.json").read_bytes())
    return versions


def nearest(package: str, version: str) -> Known:
    """The known version to use for a version: itself; else, of the same minor release, the newest before it or the oldest
    after it; else the newest before it; else the oldest. Raises: IndexError for an unknown package."""
    known = versions(package)
    if version in known:
        return Known(version, exact=True)
    wanted = numbers(version)
    minor = [other for other in known if numbers(other)[:2] == wanted[:2]]
    before = [other for other in minor if numbers(other) <= wanted] or minor[:1]
    before = before or [other for other in known if numbers(other) <= wanted] or [known[0]]
    return Known(before[-1], exact=False)


@lru_cache(maxsize=64)
def schema(package: str, version: str = "", name: str = "") -> Mapping[str, Fact]:
    """Key -> fact in a version (the nearest known one), by default in the newest.

    Raises: IndexError for an unknown package, OSError for an unknown table.
    """
    known = nearest(package, version).version if version else versions(package)[-1]
    return table(package, name).at(known)


def key_history(package: str, key: str, name: str = "") -> KeyHistory | None:
    """The history of a key; None if no known version has it."""
    from ftdsl.catalog.changes import replacement

    if not versions(package):
        return None
    history_table = table(package, name)
    changes = history_table.names.get(key)
    if changes is None:
        return None
    gone = [version for version, fact in changes.items() if fact is None]
    present = [(version, fact) for version, fact in changes.items() if fact is not None]
    until = gone[-1] if gone and list(changes)[-1] == gone[-1] else ""
    change = replacement(package, key)
    since = present[0][0]
    return KeyHistory(
        key, package, since, until, since == history_table.versions[0], tuple(present), change.new if change else ""
    )


@lru_cache(maxsize=64)
def pins(engine: str, version: str) -> Mapping[str, Pin]:
    """A version's requirements of other packages, by distribution name."""
    return {name: Pin(**fact) for name, fact in schema(engine, version, "pins").items()} if versions(engine) else {}


def admits(wanted: str, version: str) -> bool:
    """Whether a requirement (`>=4.55.0,<=5.6.0,!=4.57.0,!=4.46.*`) admits a version.

    A pre-release or local build is treated as its release. Importing `packaging` would cost every check 17 ms; a test
    compares this function with `packaging` for every known pin and version.
    """
    return all(_meets(part.strip(), numbers(version)) for part in wanted.split(",") if part.strip())


def _meets(part: str, version: tuple[int, ...]) -> bool:
    operator = part[: len(part) - len(part.lstrip("<>=!~"))]
    text = part[len(operator) :].strip()
    wanted = numbers(text.removesuffix(".*"))
    if text.endswith(".*"):
        return (version[: len(wanted)] == wanted) is (operator == "==")
    if operator == "~=":
        return version >= wanted and version[: len(wanted) - 1] == wanted[:-1]
    length = max(len(wanted), len(version))
    left, right = (parts + (0,) * (length - len(parts)) for parts in (version, wanted))
    return {"==": left == right, "!=": left != right, "<=": left <= right, ">=": left >= right, "<": left < right,
            ">": left > right}[operator]  # fmt: skip


def about(package: str, key: str, name: str = "") -> str:
    """The package's own help text for a key, from the newest version that has one; "" if there is none."""
    path = HISTORY / package / f"{name or MAIN.get(package, 'parameters')}.help.json"
    return str(_helps(path).get(key, ""))


@cache
def _helps(path: Path) -> Mapping[str, str]:
    texts: Mapping[str, str] = json.loads(path.read_bytes())["names"] if path.exists() else {}
    return texts


def numbers(version: str) -> tuple[int, ...]:
    """A version's leading numbers, for comparison: `5.6.0.dev0` and `5.6.0+cpu` are (5, 6, 0)."""
    parts = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        parts.append(int(digits))
        if digits != part:
            break
    return tuple(parts)
