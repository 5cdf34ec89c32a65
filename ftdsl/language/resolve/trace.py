"""What an evaluation depends on: axes, stages, searched dimensions."""

from __future__ import annotations

from dataclasses import field

from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.values import StageRef
from ftdsl.record import frozen, mutable
from ftdsl.source import Span


@frozen
class Axis:
    """A swept value: `id` is unique, `label` is the key's last word, `names` how each of its values is called."""

    id: int
    label: str
    names: tuple[str, ...]


@mutable
class Trace:
    """What an evaluation met: axes it depends on, stages it refers to, dimensions it would be searched along.

    local: it depends on the stage that is being resolved (`{run}`, a stage that waits for this one).
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
