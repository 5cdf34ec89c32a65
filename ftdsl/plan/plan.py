"""The plan: every stage with nothing left to `auto`, its folder, world and engine, and the reason of each choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property

from ftdsl.language.values import StageRef, Term
from ftdsl.plan.engine import Abilities
from ftdsl.plan.world import World
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.record import frozen
from ftdsl.runtime.ramp import Phase


@frozen
class Choice:
    """A value that the plan filled in: dotted key, value as text, reason; reported: whether it is shown to the user."""

    key: str
    value: str
    reason: str
    reported: bool = True

    def __str__(self) -> str:
        setting = f"{self.key} {self.value}" if self.value == "{ }" else f"{self.key} = {self.value}"
        return f"{setting} ({self.reason})"


@frozen
class Batch:
    """Sequences: `total` = micro x accumulate x data_parallel."""

    micro: int
    accumulate: int
    data_parallel: int

    @property
    def total(self) -> int:
        return self.micro * self.accumulate * self.data_parallel

    def __str__(self) -> str:
        return (
            f"{self.total} global = {self.micro} micro x {self.accumulate} accumulate "
            f"x {self.data_parallel} data-parallel"
        )


def numbered(plan_folder: str, number: int, name: str) -> str:
    """`15-scratch`: the folder of a job besides the stages. plan_folder: of a stage, whose number has as many digits."""
    return f"{number:0{len(plan_folder.partition('-')[0])}d}-{name}"


def number_of(folder: str) -> int:
    """20 of `20-sft`."""
    return int(folder.partition("-")[0])


@frozen
class PlannedStage:
    """A stage with its choices.

    stage: its settings include every choice; folder: `20-sft`; engine: abilities of the stage's engine; method: `lora`, `full`, …
    or "" for stages that do not train.
    ramp: the phases of a batch that changes; `batch` has the largest micro-batch of them.
    """

    stage: Stage
    folder: str
    world: World
    engine: Abilities
    batch: Batch | None = None
    method: str = ""
    strategy: str = ""
    precision: str = ""
    choices: tuple[Choice, ...] = ()
    ramp: tuple[Phase, ...] = ()

    @property
    def equations(self) -> tuple[str, ...]:
        """The batch equation, of each phase where the batch changes; none where a stage has no batch."""
        if self.batch is None:
            return ()
        if not self.ramp:
            return (str(self.batch),)
        begins = [1, *(phase.until + 1 for phase in self.ramp[:-1])]
        parts = [Batch(phase.micro, phase.accumulate, self.batch.data_parallel) for phase in self.ramp]
        spans = [f"{begin:,} to {phase.until:,}" if phase.until else f"{begin:,} on"
                 for begin, phase in zip(begins, self.ramp, strict=True)]  # fmt: skip
        return tuple(f"steps {span}: {part}" for span, part in zip(spans, parts, strict=True))

    @property
    def key(self) -> str:
        return self.stage.key


@frozen
class Plan:
    """read: what was read from this machine for the plan (variable -> text), which the lock keeps."""

    recipe: Recipe
    stages: tuple[PlannedStage, ...]
    read: Mapping[str, str] = field(default_factory=dict)

    def stage(self, key: str) -> PlannedStage:
        """The planned stage of that key. Raises: KeyError."""
        return self._by_key[key]

    def origin(self, stage: Stage) -> Term | str | None:
        """The model that a stage's lineage begins with; the name of a script stage if its output is the model; None without."""
        base: Term | StageRef | None = stage.start.base if stage.start else None
        while isinstance(base, StageRef):
            lineage = self.stage(base.key).stage.start
            if lineage is None:
                return base.stage
            base = lineage.base
        return base

    def readers(self, data: Stage) -> list[Stage]:
        """The stages that read a data stage."""
        return [
            planned.stage
            for planned in self.stages
            if any(isinstance(item, StageRef) and item.key == data.key for item in planned.stage.settings.items("data"))
        ]

    @cached_property
    def _by_key(self) -> dict[str, PlannedStage]:
        return {stage.key: stage for stage in self.stages}
