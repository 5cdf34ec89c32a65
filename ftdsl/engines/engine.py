"""The seam of engines: what a program that trains must bring so that recipes compile to it.

An engine is a folder with an `Engine` in it. Its parameters are lowered from an overlay (`overlay.toml`: the language's keys
-> the engine's), and by functions where more than one key decides. The rooms in `engines/shared` do what is general.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeAlias

from ftdsl.plan.engine import Abilities
from ftdsl.record import frozen

if TYPE_CHECKING:
    from ftdsl.engines.jobs import Job
    from ftdsl.engines.shared.stage_context import StageContext

Lowering: TypeAlias = "Callable[[StageContext], Job]"
"""A planned stage to a job. What the engine cannot do is added to the session's sink; nothing is raised for a user's mistake."""


@frozen
class Engine:
    """A program that trains.

    abilities: what the plan asks of it, its name and title among that;
    lowerings: by stage kind, how a stage becomes a job (`data` and `shell` stages need no engine);
    methods: the method blocks it has (`lora`, `full`, …);
    lowered: dotted keys that its code lowers, beside those its overlay maps;
    unsupported: dotted key -> why it has nothing for it, and what to write instead;
    package: the distribution whose version counts ("": it needs none, and runs in ftc's own Python);
    distributions: those whose versions may change a result, the package first;
    probe: the module whose import shows that it can train, for `ftc engine doctor`;
    overlay: its tables, where they are not generated into the catalogue (an engine from elsewhere).
    """

    abilities: Abilities
    lowerings: Mapping[str, Lowering]
    methods: tuple[str, ...] = ()
    lowered: frozenset[str] = frozenset()
    unsupported: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    package: str = ""
    distributions: tuple[str, ...] = ()
    probe: str = ""
    overlay: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As a recipe writes it."""
        return self.abilities.name

    @property
    def title(self) -> str:
        """As people write it."""
        return self.abilities.title
