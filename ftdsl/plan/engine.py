"""What the plan needs to know of an engine: the layouts it can run, how it holds a model, its own defaults.

The plan knows no engine. Each engine implements `Abilities` (`engines/<name>/abilities.py`), and the pipeline passes it in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from ftdsl.environments import Versions
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen

ZERO = ("zero0", "zero1", "zero2", "zero3")
FSDP = ("fsdp1", "fsdp2")


@frozen(eq=True)
class Layout:
    """The choices that determine memory and speed, in the terms of a recipe.

    bits: how the base is loaded (4, 8; 0: not quantised); strategy: "" for one process; offload: none, optimizer, params
    (includes the optimizer); checkpointing: none or full; micro: sequences on one GPU at once.
    """

    method: str
    bits: int
    precision: str
    strategy: str
    offload: str
    checkpointing: str
    micro: int


class Abilities(Protocol):
    """An engine, as far as planning depends on it. Only `setup` may raise."""

    @property
    def name(self) -> str:
        """The name in a recipe: `llamafactory`."""

    @property
    def title(self) -> str:
        """The name in messages: `LLaMA-Factory`."""

    def defaults(self, stage: Stage) -> Mapping[str, Any]:
        """The engine's own defaults, by dotted key, of settings that a recipe may leave open; the plan writes them out."""

    def possible(self, stage: Stage, layout: Layout, world: World) -> bool:
        """Whether the engine can train the stage with this layout. Other layouts are never chosen."""

    def one_sequence(self, stage: Stage) -> bool:
        """Whether a GPU must process one sequence (one pack of rows) at a time, even if more fit."""

    def fused_loss(self, stage: Stage, family: str) -> str:
        """The member of `kernels` that works the loss out without holding all logits, for an architecture (transformers'
        model_type); "" where the engine has none for it."""

    def generates(self, stage: Stage) -> bool:
        """Whether the engine generates tokens during the stage: for a text metric, or to train on them."""

    def setup(self, stage: Stage, layout: Layout) -> Mapping[str, Any]:
        """Fields of `ftdsl.estimate.setup.Setup` that the engine determines: dtypes, master copies, objective, references; `loss`
        where the engine has its own. Models besides (`teachers`, `judges`) are added by the plan, which knows their sizes.

        Raises: NotModelledError if the memory model does not cover the stage.
        """

    def template(self, base: Any, versions: Versions) -> tuple[str, str]:
        """(name of a base model's chat template, reason); the reason is `UNKNOWN_FAMILY` if the name is a guess."""


UNKNOWN_FAMILY = "the model's family is not known"

EngineOf: TypeAlias = Callable[[Stage], Abilities]
"""The engine of a stage."""
