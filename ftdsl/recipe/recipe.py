"""The typed recipe: stages with checked settings in topological order, and the models they start from and produce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from ftdsl.environments import Versions
from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.values import Origin, StageRef, Term
from ftdsl.recipe.settings import Settings
from ftdsl.record import frozen
from ftdsl.source import Span

ModelRef: TypeAlias = Term | StageRef
"""A reference to a model, adapter or data set: a call such as `hf(…)`, or the stage that produces it."""


@frozen(eq=True)
class Lineage:
    """A model: a base, and the adapters stacked on it, in order."""

    base: ModelRef
    adapters: tuple[ModelRef, ...] = ()


@frozen
class Stage:
    """One variant of a stage.

    key: unique (`sft`, `sft@seed=1`); run: the variant (`seed=1`) or "";
    settings: its values, with inherited and shared ones, profiles and `--set`;
    origins, spans (of values) and keys (spans of keys): by dotted key (`optim.lr`);
    layers: (dotted key, source text, origin) of every layer that set a key, weakest first;
    parents: keys of the stages in `from`; needs: keys of all stages that must succeed before (with parents);
    start: the model it starts from (None for data and shell); new_adapter: it adds a new adapter to `start`;
    result: the model it produces (None for data, eval, shell);
    unknown: dotted keys whose value has an error; sound: the stage could be parsed, and its start is known;
    dimensions: what a search sets, by name.
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
    dimensions: Mapping[str, Dimension] = field(default_factory=dict)


@frozen
class EngineChoice:
    """An engine as the recipe names it (`llamafactory("0.9.5")`), and the versions in force."""

    term: Term
    versions: Versions


@frozen
class Recipe:
    """A recipe after resolution and checks.

    folder: of the recipe file; stages: in run order; engine: of the file; engines: by name, for all stages.
    target: what starts the stages, as the file names it; None: the default.
    smoke: reduced for a smoke run; resumed: then the keys of stages that are interrupted and resumed.
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
    search_spans: Mapping[str, Span] = field(default_factory=dict)
    target: Term | None = None

    @property
    def versions(self) -> Versions:
        """The versions of the file's engine."""
        return self.engines[self.engine.name].versions

    def engine_of(self, stage: Stage) -> str:
        """The name of a stage's engine: its own, else the file's."""
        return stage.settings.name("engine") or self.engine.name

    def versions_of(self, stage: Stage) -> Versions:
        """The versions in force for a stage."""
        return self.engines[self.engine_of(stage)].versions

    def location(self, span: Span | str) -> str:
        """`file:line` relative to the recipe's folder, so that artifacts do not contain the path of the machine."""
        text = span if isinstance(span, str) else span.location
        folder = f"{self.folder.as_posix()}/"
        return text.removeprefix(folder).replace(f"({folder}", "(")  # `profile p (folder/recipe.ft:3)`

    def stage(self, key: str) -> Stage:
        """The stage of that key. Raises: KeyError."""
        return self._by_key[key]

    def find(self, key: str) -> Stage | None:
        """The stage of that key, or None."""
        return self._by_key.get(key)

    def reader(self, data: Stage) -> str:
        """The kind of the first stage that reads a data stage, which determines pairs and labels; `sft` if none does."""
        return self.read_by(data) or "sft"

    def read_by(self, data: Stage) -> str:
        """The kind of the first stage that reads a data stage; "" if none does."""
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
