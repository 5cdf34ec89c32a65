"""The targets: built in (members of the key `target`, each a module here), those of other packages (entry points), those that a
program registers.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.targets.target import Target

ENTRY_POINTS = "ftdsl.targets"
"""The group of entry points for targets of other packages: each an object with the methods of `Target`."""

DEFAULT = "bash"
_registered: dict[str, Target] = {}


def register(target: Target) -> None:
    """Add a target for the life of the process."""
    _registered[target.name] = target


def forget(name: str) -> None:
    """Undo `register`."""
    _registered.pop(name, None)


def get(name: str) -> Target | None:
    """The target of that name; None if there is none. A built-in target's module is imported when it is asked for."""
    if name in _registered:
        return _registered[name]
    if name in _built_in():
        target: Target = import_module(f"ftdsl.targets.{name}").TARGET
        return target
    return _entry_points().get(name)


def names() -> list[str]:
    """The values of `--target`."""
    return sorted({*_registered, *_built_in(), *_entry_points()})


def _built_in() -> list[str]:
    return [*(vocabulary().block("train").keys["target"].members or {})]


@cache
def _entry_points() -> dict[str, Target]:
    """Searches all installed packages, so it comes last."""
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}
