"""What the plan asks of an engine: which layouts it can run, how it holds a model, what it takes where a recipe is silent.

The plan knows no engine. Each has its own answers (`engines/<name>/abilities.py`), and the pipeline hands them in.
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
    """The choices that decide memory and speed, in the recipe's own terms.

    bits: how the base is loaded (4, 8; 0: not quantised); strategy: "" for one process; offload: none, optimizer, params
    (which takes the optimizer along); checkpointing: none or full; micro: sequences on one card at once.
    """

    method: str
    bits: int
    precision: str
    strategy: str
    offload: str
    checkpointing: str
    micro: int


class Abilities(Protocol):
    """An engine, as far as planning depends on it. Nothing here raises but `setup`."""

    @property
    def name(self) -> str:
        """As a recipe writes it: `llamafactory`."""

    @property
    def title(self) -> str:
        """As people write it: `LLaMA-Factory`."""

    def defaults(self, stage: Stage) -> Mapping[str, Any]:
        """The engine's own values, by dotted key, of settings that a recipe may leave open: they are written out."""

    def possible(self, stage: Stage, layout: Layout, world: World) -> bool:
        """Whether the engine can train this stage so. What it cannot do is never chosen."""

    def one_sequence(self, stage: Stage) -> bool:
        """Whether a card takes one sequence (one pack of rows) at a time, whatever fits."""

    def fused_loss(self, stage: Stage, family: str) -> str:
        """The member of `kernels` that works the loss out without holding all logits, for an architecture (transformers'
        model_type); "" where the engine has none for it."""

    def generates(self, stage: Stage) -> bool:
        """Whether the engine writes tokens during the stage: for a metric of texts, or to learn from."""

    def setup(self, stage: Stage, layout: Layout) -> Mapping[str, Any]:
        """How the engine holds weights and what its loss takes: fields of `ftdsl.estimate.setup.Setup` (dtypes, master
        copies, objective, references). Raises: NotModelledError for what has no physics here.
        """

    def template(self, base: Any, versions: Versions) -> tuple[str, str]:
        """Name of the chat template of a base model, and why; the reason is `UNKNOWN_FAMILY` where it is a guess."""


UNKNOWN_FAMILY = "the model's family is not known"

EngineOf: TypeAlias = Callable[[Stage], Abilities]
"""The engine of a stage."""
