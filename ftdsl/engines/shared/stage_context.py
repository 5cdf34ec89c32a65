"""What the lowering of one stage works on: its settings by dotted key, where things lie, and a way to refuse."""

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
    """One planned stage on its way to parameters."""

    planned: PlannedStage
    plan: Plan
    paths: RunPaths
    session: Session
    engine: Engine

    @property
    def stage(self) -> Stage:
        return self.planned.stage

    @property
    def where(self) -> str:
        """`quickstart.ft:12`, seen from the recipe's folder."""
        return self.plan.recipe.where(self.stage.span)

    @property
    def folder(self) -> str:
        return self.planned.folder

    @property
    def versions(self) -> Versions:
        """Of the engine and what stands beside it: what is compiled for."""
        return self.plan.recipe.versions_of(self.stage)

    def get(self, key: str) -> Any:
        """The setting at a dotted key, its default, or None."""
        return self.stage.settings.get(key)

    def name(self, key: str) -> str:
        """The member at a key ("" when unset)."""
        return self.stage.settings.name(key)

    def names(self, key: str) -> list[str]:
        """The members at a key that takes one or several."""
        return [item.name if isinstance(item, Term) else str(item) for item in self.stage.settings.items(key)]

    def option(self, key: str, option: str) -> Any:
        value = self.get(key)
        return value.options.get(option) if isinstance(value, Term) else None

    def is_explicit(self, key: str) -> bool:
        """Whether the recipe says it (not a default of the language or a choice of the plan)."""
        origin = self.stage.origins.get(key)
        return origin is not None and origin.kind not in ("auto", "default")

    def refuse(self, key: str, why: str, help: str = "") -> None:
        """What the engine cannot do is an error at the key, never dropped; beside a key with an error it is not judged."""
        block = key.rpartition(".")[0]
        if any(name == key or (block and name.startswith(f"{block}.")) for name in self.stage.unknown):
            return
        self.session.sink.error("FT012", why, self._span(key), help=help)

    def warn(self, key: str, why: str, help: str = "") -> None:
        """What is written and has no effect is said."""
        self.session.sink.warning("FT225", why, self._span(key), help=help)

    def _span(self, key: str) -> Span:
        spans = self.stage.spans
        return spans.get(key) or spans.get(key.split(".")[0]) or self.stage.span
