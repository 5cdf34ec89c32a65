"""What the lowering of one stage works with: its settings by dotted key, the paths of a run, and a way to report errors."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.engine import Engine
from ftdsl.engines.shared.run_paths import RunPaths
from ftdsl.environments import Versions
from ftdsl.language.values import Term
from ftdsl.plan.plan import Plan, PlannedStage
from ftdsl.recipe.recipe import Stage
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.source import Span

Params = dict[str, Any]
"""An engine's parameters by name."""


@frozen
class StageContext:
    """A planned stage, the plan it belongs to, and the engine it is lowered for."""

    planned: PlannedStage
    plan: Plan
    paths: RunPaths
    session: Session
    engine: Engine

    @property
    def stage(self) -> Stage:
        return self.planned.stage

    @property
    def location(self) -> str:
        """`quickstart.ft:12`, relative to the recipe's folder."""
        return self.plan.recipe.location(self.stage.span)

    @property
    def folder(self) -> str:
        return self.planned.folder

    @property
    def versions(self) -> Versions:
        """Versions of the engine and its dependencies that the stage is compiled for."""
        return self.plan.recipe.versions_of(self.stage)

    def get(self, key: str) -> Any:
        """The setting at a dotted key, its default, or None."""
        return self.stage.settings.get(key)

    def name(self, key: str) -> str:
        """The name of the value at a key ("" when unset)."""
        return self.stage.settings.name(key)

    def names(self, key: str) -> list[str]:
        """The names of the values at a key that takes one or several."""
        return [item.name if isinstance(item, Term) else str(item) for item in self.stage.settings.items(key)]

    def option(self, key: str, option: str) -> Any:
        value = self.get(key)
        return value.options.get(option) if isinstance(value, Term) else None

    def is_explicit(self, key: str) -> bool:
        """Whether the author set it (not a default of the language or a choice of the plan)."""
        origin = self.stage.origins.get(key)
        return origin is not None and origin.kind not in ("auto", "default")

    def refuse(self, key: str, why: str, help: str = "") -> None:
        """An error at the key: the engine cannot do this. Keys that have an error already, or a key of their block has, are
        not judged.
        """
        block = key.rpartition(".")[0]
        if any(name == key or (block and name.startswith(f"{block}.")) for name in self.stage.unknown):
            return
        self.session.sink.error("FT012", why, self._span(key), help=help)

    def warn(self, key: str, why: str, help: str = "") -> None:
        """A warning at the key: it has no effect here. One that is set for all stages has it in others."""
        if not self.is_shared(key):
            self.session.sink.warning("FT225", why, self._span(key), help=help)

    def is_shared(self, key: str) -> bool:
        """Whether the key is set outside of stages, for all of them."""
        origin = self.stage.origins.get(key)
        return origin is not None and origin.kind in ("file", "include")

    def _span(self, key: str) -> Span:
        spans = self.stage.spans
        return spans.get(key) or spans.get(key.split(".")[0]) or self.stage.span
