"""Which targets there are: bash, those another package brings (entry points), those a program registers."""

from __future__ import annotations

from functools import cache

from ftdsl.targets.bash import BashTarget
from ftdsl.targets.target import Target

ENTRY_POINTS = "ftdsl.targets"
"""The group of entry points by which another package brings a target: an object with the methods of `Target`."""

DEFAULT = "bash"
_known: dict[str, Target] = {DEFAULT: BashTarget()}


def register(target: Target) -> None:
    """Make a target known for as long as the process lives."""
    _known[target.name] = target


def forget(name: str) -> None:
    """Undo `register`."""
    _known.pop(name, None)


def get(name: str) -> Target | None:
    """The target of that name; None where there is none."""
    return _known.get(name) or _from_elsewhere().get(name)


def names() -> list[str]:
    """All targets that `--target` takes."""
    return sorted({*_known, *_from_elsewhere()})


@cache
def _from_elsewhere() -> dict[str, Target]:
    """Looks through all installed packages, and so is asked for last."""
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}
