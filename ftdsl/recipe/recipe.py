"""The typed recipe: stages with checked settings, in the order of their graph, and what each starts from and makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from ftdsl.environments import Versions
from ftdsl.language.values import Origin, StageRef, Term
from ftdsl.recipe.settings import Settings
from ftdsl.record import frozen
from ftdsl.source import Span

ModelRef: TypeAlias = Term | StageRef
"""A model, adapter or data set: a call such as `hf(…)`, or the stage that makes it."""


@frozen(eq=True)
class Lineage:
    """A model as the recipe knows it: a base, and the adapters stacked on it, in order."""

    base: ModelRef
    adapters: tuple[ModelRef, ...] = ()


@frozen
class Stage:
    """A stage of one variant.

    key: unique (`sft`, `sft@seed=1`); run: the variant (`seed=1`) or "";
    settings: what it says, with what is handed on, shared, set by profiles and `--set` already in;
    origins, spans (of values) and keys (where the key stands): by dotted key (`optim.lr`);
    layers: (dotted key, value as written, who) of every layer that set a key, weakest first;
    parents: keys named by `from`; needs: keys of every stage that must have succeeded before (parents included);
    start: what it begins with (None for data and shell); new_adapter: it puts a new adapter on top of `start`;
    result: what it hands on (None for data, eval, shell);
    unknown: dotted keys whose value an error has taken; sound: what it starts from and says could be read at all.
    """

    key: str
    name: str
    run: str
    kind: str
    settings: Settings
    origins: Mapping[str, Origin]
    spans: Mapping[str, Span]
    keys: Mapping[str, Span]
    layers: Sequence[tuple[str, str, Origin]]
    span: Span
    parents: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    start: Lineage | None = None
    new_adapter: bool = False
    result: Lineage | None = None
    doc: str = ""
    unknown: frozenset[str] = frozenset()
    sound: bool = True


@frozen
class EngineChoice:
    """An engine as a recipe names it (`llamafactory("0.9.5")`), and the versions that count."""

    term: Term
    versions: Versions


@frozen
class Recipe:
    """A whole recipe after resolution and checks. `folder` is where the recipe file lies; `stages` are in run order.
    engine: the file's; `engines`: of every engine that a stage names, how it is named and the versions that count of it and
    of what it runs beside.

    `smoke`: it is one in small; then `resumed` are the keys of stages that are interrupted and gone on with.
    """

    name: str
    engine: Term
    engines: Mapping[str, EngineChoice]
    seed: int
    folder: Path
    span: Span
    stages: tuple[Stage, ...]
    templates: Mapping[str, Settings] = field(default_factory=dict)
    search: Settings | None = None
    budget: Mapping[str, float] = field(default_factory=dict)
    doc: str = ""
    smoke: bool = False
    resumed: frozenset[str] = frozenset()
    budget_spans: Mapping[str, Span] = field(default_factory=dict)

    @property
    def versions(self) -> Versions:
        """Of the file's engine."""
        return self.engines[self.engine.name].versions

    def engine_of(self, stage: Stage) -> str:
        """The name of the engine that a stage asks for, else the file's."""
        return stage.settings.name("engine") or self.engine.name

    def versions_of(self, stage: Stage) -> Versions:
        """The versions that count for a stage."""
        return self.engines[self.engine_of(stage)].versions

    def location(self, span: Span | str) -> str:
        """`file:line` seen from the recipe's folder, so that artifacts do not tell where the recipe was compiled."""
        text = span if isinstance(span, str) else span.location
        folder = f"{self.folder.as_posix()}/"
        return text.removeprefix(folder).replace(f"({folder}", "(")  # `profile p (folder/recipe.ft:3)`

    def stage(self, key: str) -> Stage:
        """The stage of that key. Raises: KeyError."""
        return self._by_key[key]

    def find(self, key: str) -> Stage | None:
        """The stage of that key, if there is one."""
        return self._by_key.get(key)

    def reader(self, data: Stage) -> str:
        """The kind of the first stage that reads a data stage: pairs and labels follow from it. `sft` when none does."""
        return self.read_by(data) or "sft"

    def read_by(self, data: Stage) -> str:
        """The kind of the first stage that reads a data stage; "" when none does."""
        return self._readers.get(data.key, "")

    @cached_property
    def _readers(self) -> dict[str, str]:
        """Key of a data stage -> kind of the first stage that reads it."""
        readers: dict[str, str] = {}
        for stage in self.stages:
            for item in (*stage.settings.items("data"), *stage.settings.items("evaluate.data")):
                if isinstance(item, StageRef):
                    readers.setdefault(item.key, stage.kind)
        return readers

    @cached_property
    def _by_key(self) -> dict[str, Stage]:
        return {stage.key: stage for stage in self.stages}
