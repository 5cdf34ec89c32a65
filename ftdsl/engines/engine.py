"""The interface of engines: what a training program must provide so that recipes compile to it.

An engine is a folder with an `Engine` in it. Its parameters are lowered by an overlay (`overlay.toml`: keys of the language
-> parameters of the engine), and by functions where more than one key decides. `engines/shared` holds what engines have in
common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeAlias

from ftdsl.catalog import Fact
from ftdsl.environments import Versions
from ftdsl.plan.engine import Abilities
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen

if TYPE_CHECKING:
    from ftdsl.engines.jobs import Job
    from ftdsl.engines.shared.stage_context import StageContext

Lowering: TypeAlias = "Callable[[StageContext], Job]"
"""A planned stage to a job. What the engine cannot do is reported to the session's sink; a user's mistake raises nothing."""


@frozen
class Engine:
    """A training program.

    abilities: what the plan needs to know of it, including its name and title;
    lowerings: by stage kind, how a stage becomes a job (`data` and `shell` stages need no engine);
    methods: the method blocks it supports (`lora`, `full`, …);
    lowered: dotted keys that its code lowers, in addition to those its overlay maps;
    unsupported: dotted key -> why the engine does not support it, and what to write instead;
    package: the distribution that is the engine ("": none, the engine runs in ftc's own Python);
    distributions: those whose versions may change a result, the package first;
    requirements: what `ftc engine install` installs beside torch; (): LLaMA-Factory's, in run/install.py;
    probe: the module whose import shows that it can train, for `ftc engine doctor`;
    show: its program and verb that write the first rows of a stage as the model sees them, for `ftc data show`, in the shape of
    runtime/show.py (empty: it cannot);
    parameters: the parameters that a stage can have, where they differ by kind of stage (by default the engine's whole schema);
    linted: whether the rules of `ftdsl.lint` are about its parameters;
    splits_tensors: strategies under which it can also split tensors over ranks by itself;
    step_rows: the program of `ftdsl/runtime` that names the rows of a step, "" where there is none;
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
    show: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    parameters: Callable[[Stage, Versions], Mapping[str, Fact]] | None = None
    linted: bool = False
    splits_tensors: tuple[str, ...] = ()
    step_rows: str = ""
    overlay: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in a recipe: `llamafactory`."""
        return self.abilities.name

    @property
    def title(self) -> str:
        """The name in messages: `LLaMA-Factory`."""
        return self.abilities.title
