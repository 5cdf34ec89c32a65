"""What packages knew in which version: parameters, configuration keys, enums, templates, pins; and what changed when.

The facts lie in `data/history/<package>/<table>.json`, extracted from the packages' own sources
(`python -m ftdsl.catalog.extract`): a name, and each version from which on something else is true of it (null: gone).
A table is read when it is asked for, and folded to the one version that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from ftdsl.record import frozen

HISTORY = Path(__file__).parent / "data" / "history"

Fact: TypeAlias = Mapping[str, Any]
"""Of a parameter: `type`, `default` (none: it must be given), `default_code` (a default that only running it tells),
`choices`, `section` (the class or file that holds it), and where a package says so `alias`, `deprecated`, `new_param`,
`ge gt le lt`."""

MAIN = {"deepspeed": "config", "accelerate": "config"}
"""The table that holds a package's keys, where it is not `parameters`."""


@frozen
class Table:
    """One kind of facts of one package: `names` maps a name to version -> fact from then on, None when it is gone."""

    package: str
    versions: tuple[str, ...]
    names: Mapping[str, Mapping[str, Any]]

    def at(self, version: str) -> dict[str, Any]:
        """Name -> fact, in one of `versions`. Raises: ValueError."""
        last = self.versions.index(version)
        order = {known: place for place, known in enumerate(self.versions)}
        found = {}
        for name, changes in self.names.items():
            fact = None
            for since, value in changes.items():
                if order[since] > last:
                    break
                fact = value
            if fact is not None:
                found[name] = fact
        return found


@frozen
class KeyHistory:
    """A key through the versions that are known.

    since: the first that has it (`earliest`: the oldest known one, so it may be older); until: the first that has it
    no more, "" while it lasts; changes: (version, fact from then on), oldest first; replaced_by: what to write instead.
    """

    key: str
    package: str
    since: str
    until: str
    earliest: bool
    changes: tuple[tuple[str, Fact], ...]
    replaced_by: str = ""

    def defaults(self) -> list[tuple[str, Any]]:
        """(version, default from then on): more than one when it changed."""
        found: list[tuple[str, Any]] = []
        for version, fact in self.changes:
            value = fact.get("default", fact.get("default_code"))
            if not found or found[-1][1] != value:
                found.append((version, value))
        return found


@frozen
class Pin:
    """What an engine asks of another package: `metadata` (pip holds it), `check` (held while it runs; `file`: only when
    that part of the engine is used). They may disagree. `newest`: the newest known version that both admit, or ""."""

    metadata: str = ""
    check: str = ""
    extra: str = ""
    file: str = ""
    newest: str = ""


@frozen
class Known:
    """The version whose facts stand in for one that was asked for; `exact` when it is that one."""

    version: str
    exact: bool


def packages() -> list[str]:
    """Packages whose history is known."""
    return sorted(_versions())


@cache
def table(package: str, name: str = "") -> Table:
    """A table of a package; without a name the one that holds its keys. Raises: OSError when there is none."""
    raw = json.loads((HISTORY / package / f"{name or MAIN.get(package, 'parameters')}.json").read_bytes())
    return Table(package, versions(package), raw["names"])


def versions(package: str) -> tuple[str, ...]:
    """Versions of a package whose facts are known, oldest first; empty for one that is not known."""
    return tuple(_versions().get(package, ()))


@cache
def _versions() -> Mapping[str, list[str]]:
    found: Mapping[str, list[str]] = json.loads((HISTORY / "versions.json").read_bytes())
    return found


def nearest(package: str, version: str) -> Known:
    """The known version to go by: itself, else the newest of the same minor release before or (failing that) after it,
    else the newest before it, else the oldest there is. Raises: IndexError for a package that is not known."""
    known = versions(package)
    if version in known:
        return Known(version, exact=True)
    wanted = numbers(version)
    minor = [one for one in known if numbers(one)[:2] == wanted[:2]]
    before = [one for one in minor if numbers(one) <= wanted] or minor[:1]
    before = before or [one for one in known if numbers(one) <= wanted] or [known[0]]
    return Known(before[-1], exact=False)


@cache
def schema(package: str, version: str = "", name: str = "") -> Mapping[str, Fact]:
    """Key -> fact, in a version (the nearest known one stands in; the newest without one).

    Raises: IndexError for a package that is not known, OSError for a table that it has not.
    """
    known = nearest(package, version).version if version else versions(package)[-1]
    return table(package, name).at(known)


def key_history(package: str, key: str, name: str = "") -> KeyHistory | None:
    """Since when, until when and how a key exists; None when no known version ever had it."""
    from ftdsl.catalog.changes import replacement

    if not versions(package):
        return None
    found = table(package, name)
    changes = found.names.get(key)
    if changes is None:
        return None
    gone = [version for version, fact in changes.items() if fact is None]
    there = [(version, fact) for version, fact in changes.items() if fact is not None]
    until = gone[-1] if gone and list(changes)[-1] == gone[-1] else ""
    change = replacement(package, key)
    since = there[0][0]
    return KeyHistory(
        key, package, since, until, since == found.versions[0], tuple(there), change.new if change else ""
    )


@cache
def pins(engine: str, version: str) -> Mapping[str, Pin]:
    """What a version of an engine asks of other packages, by distribution name."""
    return {name: Pin(**fact) for name, fact in schema(engine, version, "pins").items()} if versions(engine) else {}


def admits(wanted: str, version: str) -> bool:
    """Whether a requirement as pins have it (`>=4.55.0,<=5.6.0,!=4.57.0,!=4.46.*`) admits a version.

    Of a pre-release or local build the release counts. Importing `packaging` for it would cost a check 17 ms; a test
    holds this to what `packaging` says of every pin and every version that is known.
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
    left, right = (one + (0,) * (length - len(one)) for one in (version, wanted))
    return {"==": left == right, "!=": left != right, "<=": left <= right, ">=": left >= right, "<": left < right,
            ">": left > right}[operator]  # fmt: skip


def about(package: str, key: str, name: str = "") -> str:
    """The package's own help text of a key, of the newest version that has one; "" when there is none."""
    path = HISTORY / package / f"{name or MAIN.get(package, 'parameters')}.help.json"
    return str(_helps(path).get(key, ""))


@cache
def _helps(path: Path) -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads(path.read_bytes())["names"] if path.exists() else {}
    return found


def numbers(version: str) -> tuple[int, ...]:
    """A version's leading numbers, for order: `5.6.0.dev0` and `5.6.0+cpu` are (5, 6, 0)."""
    found = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break
    return tuple(found)
