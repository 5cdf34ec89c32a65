"""The dependencies of an evaluation: axes, stages, searched dimensions."""

from __future__ import annotations

from dataclasses import field

from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.values import StageRef
from ftdsl.record import frozen, mutable
from ftdsl.source import Span


@frozen
class Axis:
    """A swept value: a unique `id`, `label` (the last part of the key), and the names of its values."""

    id: int
    label: str
    names: tuple[str, ...]


@mutable
class Trace:
    """The dependencies of an evaluation: axes, stages referred to, dimensions of the search.

    local: it depends on the stage being resolved (`{run}`, or a stage that depends on this one).
    """

    axes: dict[int, Axis] = field(default_factory=dict)
    refs: dict[StageRef, Span] = field(default_factory=dict)
    dimensions: dict[str, Dimension] = field(default_factory=dict)
    local: bool = False

    def absorb(self, other: Trace) -> None:
        self.axes |= other.axes
        self.refs |= other.refs
        self.dimensions |= other.dimensions
        self.local |= other.local

    @property
    def constant(self) -> bool:
        """Whether the result is the same in every stage and variant."""
        return not (self.axes or self.refs or self.dimensions or self.local)


def names_of(texts: list[str]) -> tuple[str, ...]:
    """The names of an axis's values in `{run}`: the source text as a file name, numbered if not unique."""
    short = ["".join(c if c.isalnum() or c in "._+-" else "-" for c in _brief(text)).strip("-")[:40] for text in texts]
    if len(set(short)) == len(short) and all(short):
        return tuple(short)
    return tuple(f"{name}-{at}" if name else str(at) for at, name in enumerate(short, 1))


def _brief(text: str) -> str:
    """The last path component of a call's text: `hf("org/name", …)` -> `name`."""
    if '"' in text:
        return text.split('"')[1].rstrip("/").rsplit("/", 1)[-1]
    return text
