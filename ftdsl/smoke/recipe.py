"""A recipe made small enough for any machine: the same stages, hand-offs, formats and templates; toy models, few rows.

Every replacement is kept, with what stood there and why: a smoke run shows what it tried and what it did not.
"""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.language.values import Secret, StageRef, Term
from ftdsl.plan.engine import Abilities, EngineOf
from ftdsl.recipe.lineage import TRAINING
from ftdsl.recipe.recipe import Lineage, Recipe, Stage, Where
from ftdsl.recipe.rules.data import SOURCES
from ftdsl.recipe.settings import Settings
from ftdsl.record import frozen, replace
from ftdsl.session import Files
from ftdsl.smoke import models
from ftdsl.smoke.data import Reached
from ftdsl.smoke.replaced import Replacement
from ftdsl.smoke.stage import Smaller


@frozen
class Small:
    """The recipe in small, everything that was replaced, and files of made-up rows by their path in the run folder."""

    recipe: Recipe
    replaced: tuple[Replacement, ...]
    files: dict[str, bytes]


def smoke(recipe: Recipe, files: Files, engine_of: EngineOf) -> Small:
    """Scripts of the author's never run; data that is not on this machine becomes rows of the declared shape."""
    rows = Reached(recipe, files)
    reasons = {stage.key: why for stage in recipe.stages if (why := _left_out(stage, recipe))}
    skipped = {stage.key: stage for stage in recipe.stages if stage.key in reasons}
    stages: list[Stage] = []
    told: list[Replacement] = []
    for stage in recipe.stages:
        if stage.key in skipped:
            where, why = recipe.where(stage.span), reasons[stage.key]
            told.append(Replacement(stage.key, "stage", stage.kind, "left out", why, where))
            continue
        small = _Stage(recipe, stage, skipped, files, engine_of(stage))
        stages.append(small.made(rows))
        told += small.smaller.replacements
    resumed = frozenset(_resumed(stages))
    return Small(replace(recipe, stages=tuple(stages), smoke=True, resumed=resumed), tuple(told), rows.made_up)


def _left_out(stage: Stage, recipe: Recipe) -> str:
    """Why a stage cannot run here at all; "" where it can."""
    if stage.kind == "shell":
        return "scripts never run"
    limit = catalog.smoke()["newest"].get(stage.kind)
    there = recipe.versions_of(stage).of(limit["package"]) if limit else ""
    if not limit or catalog.numbers(there) <= catalog.numbers(limit["version"]):
        return ""
    return f"{limit['why']}, and {limit['package']} {there} is here"


def _resumed(stages: list[Stage]) -> dict[str, None]:
    """Keys of the stages that are interrupted and gone on with: one run of each stage that saves what it needs for it."""
    found: dict[str, str] = {}
    for stage in stages:
        get = stage.settings.get
        saves = get("save.resumable") is not False and stage.settings.name("save.every") != "never"
        if (
            stage.kind in TRAINING
            and stage.kind not in _NOT_RESUMED
            and saves
            and stage.settings.name("resume") != "never"
        ):
            found.setdefault(stage.name, stage.key)
    return dict.fromkeys(found.values())


_NOT_RESUMED = ("ppo", "reward")
"""LLaMA-Factory 0.9.5 cannot go on with them: transformers does not see the adapter inside its model with a value head, and
looks for whole weights in the checkpoint (run; transformers/trainer.py, _load_from_checkpoint).
"""


class _Stage:
    """One stage on its way down: its settings (Smaller), its data (Reached), the models it starts from (toys)."""

    def __init__(
        self, recipe: Recipe, stage: Stage, skipped: dict[str, Stage], files: Files, engine: Abilities
    ) -> None:
        self.recipe, self.stage, self.files, self.skipped, self.engine = recipe, stage, files, skipped, engine
        self.smaller = Smaller(recipe, stage)

    def made(self, rows: Reached) -> Stage:
        small, stage = self.smaller, self.stage
        start, result = self._lineage(stage.start, told=True), self._lineage(stage.result)
        kind = stage.kind
        if kind == "quantize":
            kind = self._copied()
        small.made()
        for key in SOURCES:
            rows.reach(key, small)
        if start is not None:
            self._others(start)
        for key in [key for key, value in small.values.items() if isinstance(value, Secret)]:
            small.drop(key, "no secrets in a smoke run")
        settings = Settings(kind, small.values, frozenset(small.blocks))
        needs = tuple(need for need in stage.needs if need not in self.skipped)
        stacked = stage.new_adapter and bool(start and start.adapters)
        return replace(
            stage, kind=kind, settings=settings, start=start, result=result, needs=needs, new_adapter=stacked
        )

    def _copied(self) -> str:
        """Calibrating needs a card: the stage hands on a plain copy, so that what follows is tried."""
        self.smaller.tell("stage", "quantize", "merge", "calibrating needs a card: a plain copy is handed on")
        for key in ("bits", "scheme", "calibrate", "max_len"):
            self.smaller.values.pop(key, None)
        return "merge"

    # --- models

    def _lineage(self, lineage: Lineage | None, *, told: bool = False) -> Lineage | None:
        if lineage is None:
            return None
        lineage = self._without_skipped(lineage)
        base = self._toy(lineage.base, told)
        adapters = tuple(one for one in lineage.adapters if isinstance(one, StageRef))
        if told and len(adapters) < len(lineage.adapters):
            self.smaller.tell("model", "an adapter from elsewhere", "left out", "it belongs to the real base")
        return Lineage(base, adapters)

    def _without_skipped(self, lineage: Lineage) -> Lineage:
        """What a stage that is left out would have made is what that stage starts from."""
        for stage in reversed(self.skipped.values()):
            made, start = stage.result, stage.start
            if made and start and lineage.base == made.base and _begins(lineage.adapters, made.adapters):
                lineage = Lineage(start.base, start.adapters + lineage.adapters[len(made.adapters) :])
        return lineage

    def _toy(self, base: Where, told: bool) -> Where:
        """The same architecture at toy size; results of stages, and models that are small already, stay what they are."""
        if self._made_here(base):
            return base
        toy = models.toy_of(base, self.recipe, self.stage, self.files)
        if told:
            self.smaller.tell("model", models.name_of(base), toy.now, "toy size")
            self.smaller.values.pop("model", None)
            if self.smaller.get("template") in (None, "auto") and self.stage.kind != "pretrain":
                self.smaller.values["template"] = self.engine.template(base, self.recipe.versions_of(self.stage))[0]
        return toy.term

    def _made_here(self, base: Where) -> bool:
        if isinstance(base, StageRef):
            return base.key not in self.skipped
        inner = base.options.get("path")
        if isinstance(inner, StageRef):
            return inner.key not in self.skipped
        return base.name == "scratch" and base.options.get("like") is None

    def _others(self, start: Lineage) -> None:
        """Models beside the one that is trained: all toys of one make."""
        if isinstance(self.smaller.values.get("reference"), Term):
            self.smaller.drop("reference", "it is the toy that the stage starts from")
        if isinstance(reward := self.smaller.values.get("reward"), Term):
            self.smaller.values["reward"] = start.base
            self.smaller.tell("reward", models.name_of(reward), "the toy it starts from", "toy size")
        if isinstance(self.smaller.values.get("resume"), Term) and self.smaller.settings().name("resume") == "file":
            self.smaller.drop("resume", "that checkpoint is of the real model")


def _begins(adapters: tuple[Where, ...], first: tuple[Where, ...]) -> bool:
    return adapters[: len(first)] == first


def searched(recipe: Recipe, dimensions: dict[str, list[tuple[str, Any]]]) -> list[Replacement]:
    """What a search would choose, left to the language's own choice: by stage key, the dotted key and its place."""
    found = []
    for stage in recipe.stages:
        for key, span in dimensions.get(stage.key, ()):
            where = recipe.where(span)
            found.append(Replacement(stage.key, key, span.text, "auto", "one trial is tried", where))
    return found
