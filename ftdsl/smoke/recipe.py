"""A recipe reduced until it runs on any machine: the same stages, hand-offs, formats and templates; toy models, few rows.

Every replacement is recorded with its reason, so that a smoke run shows what it tests and what it does not.
"""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.language.values import Secret, StageRef, Term
from ftdsl.plan.engine import Abilities, EngineOf
from ftdsl.recipe.recipe import Lineage, ModelRef, Recipe, Stage
from ftdsl.recipe.rules.data import SOURCES
from ftdsl.recipe.settings import Settings
from ftdsl.record import frozen, replace
from ftdsl.session import Files
from ftdsl.smoke import models
from ftdsl.smoke.data import DataReplacer
from ftdsl.smoke.report import Replacement
from ftdsl.smoke.stage import StageReducer


@frozen
class SmokeRecipe:
    """The reduced recipe, everything that was replaced, and files of generated rows by their path in the run folder."""

    recipe: Recipe
    replaced: tuple[Replacement, ...]
    files: dict[str, bytes]


def smoke(recipe: Recipe, files: Files, engine_of: EngineOf) -> SmokeRecipe:
    """The reduced recipe. The author's scripts never run; data that is not on this machine becomes generated rows."""
    data = DataReplacer(recipe, files)
    reasons = {stage.key: why for stage in recipe.stages if (why := _left_out(stage, recipe))}
    skipped = {stage.key: stage for stage in recipe.stages if stage.key in reasons}
    stages: list[Stage] = []
    replacements: list[Replacement] = []
    for stage in recipe.stages:
        if stage.key in skipped:
            where, why = recipe.location(stage.span), reasons[stage.key]
            replacements.append(Replacement(stage.key, "stage", stage.kind, "left out", why, where))
            continue
        builder = _StageBuilder(recipe, stage, skipped, files, engine_of(stage))
        stages.append(builder.build(data))
        replacements += builder.reducer.replacements
    resumed = frozenset(_resumed(stages))
    return SmokeRecipe(
        replace(recipe, stages=tuple(stages), smoke=True, resumed=resumed), tuple(replacements), data.made_up
    )


def _left_out(stage: Stage, recipe: Recipe) -> str:
    """Why a stage cannot be part of a smoke run; "" if it can."""
    if stage.kind == "shell":
        return "scripts never run"
    if stage.kind == "eval" and stage.settings.get("serve") is not None:
        return "no server is started"
    if stage.kind == "eval" and stage.settings.items("tasks") and stage.settings.get("data") is None:
        return "benchmarks take hours"
    limit = catalog.smoke()["newest"].get(stage.kind)
    version = recipe.versions_of(stage).of(limit["package"]) if limit else ""
    if not limit or catalog.numbers(version) <= catalog.numbers(limit["version"]):
        return ""
    return f"{limit['why']}; this is {limit['package']} {version}"


def _resumed(stages: list[Stage]) -> dict[str, None]:
    """Keys of the stages to interrupt and resume: one run of each stage that saves what resuming needs."""
    keys: dict[str, str] = {}
    for stage in stages:
        get = stage.settings.get
        saves = get("save.resumable") is not False and stage.settings.name("save.every") != "never"
        if (
            stage.kind in TRAINING
            and stage.kind not in _NOT_RESUMED
            and saves
            and stage.settings.name("resume") != "never"
        ):
            keys.setdefault(stage.name, stage.key)
    return dict.fromkeys(keys.values())


_NOT_RESUMED = ("ppo", "reward")
"""LLaMA-Factory 0.9.5 cannot resume them: transformers does not see the adapter inside its model with a value head, and
looks for whole weights in the checkpoint (tested; transformers/trainer.py, _load_from_checkpoint).
"""


class _StageBuilder:
    """Builds the reduced stage: its settings (StageReducer), its data (DataReplacer), the models it starts from (toys)."""

    def __init__(
        self, recipe: Recipe, stage: Stage, skipped: dict[str, Stage], files: Files, engine: Abilities
    ) -> None:
        self.recipe, self.stage, self.files, self.skipped, self.engine = recipe, stage, files, skipped, engine
        self.reducer = StageReducer(recipe, stage)

    def build(self, data: DataReplacer) -> Stage:
        reducer, stage = self.reducer, self.stage
        start, result = self._lineage(stage.start, recorded=True), self._lineage(stage.result)
        kind = stage.kind
        if kind == "quantize":
            kind = self._without_calibration()
        self._without_benchmarks()
        reducer.reduce()
        for key in SOURCES:
            data.replace(key, reducer)
        if start is not None:
            self._further_models(start)
        for key in [key for key, value in reducer.values.items() if isinstance(value, Secret)]:
            reducer.drop(key, "no secrets in a smoke run")
        settings = Settings(kind, reducer.values, frozenset(reducer.blocks))
        needs = tuple(need for need in stage.needs if need not in self.skipped)
        stacked = stage.new_adapter and bool(start and start.adapters)
        return replace(
            stage, kind=kind, settings=settings, start=start, result=result, needs=needs, new_adapter=stacked
        )

    def _without_benchmarks(self) -> None:
        """Gates on what a smoke run does not measure: benchmarks, and the model that is scored besides."""
        settings = self.stage.settings
        tasks = [name for name in settings.names("tasks") if name != "file"]
        for metric, bound in settings.inside("gate").items():
            compared = isinstance(bound, Term) and bound.options.get("than")
            if compared and compared == settings.get("against"):
                self.reducer.drop(f"gate.{metric}", "the other model is not scored")
            elif metric.startswith(tuple(tasks)) if tasks else False:
                self.reducer.drop(f"gate.{metric}", "benchmarks take hours")

    def _without_calibration(self) -> str:
        """Calibration needs a GPU: the stage copies the model instead, so that later stages are tested."""
        self.reducer.record("stage", "quantize", "merge", "calibration needs a GPU: the stage copies the model")
        for key in ("bits", "scheme", "library", "calibrate", "max_len"):
            self.reducer.values.pop(key, None)
        return "merge"

    # --- models

    def _lineage(self, lineage: Lineage | None, *, recorded: bool = False) -> Lineage | None:
        if lineage is None:
            return None
        lineage = self._without_skipped(lineage)
        base = self._toy(lineage.base, recorded)
        adapters = tuple(adapter for adapter in lineage.adapters if isinstance(adapter, StageRef))
        if recorded and len(adapters) < len(lineage.adapters):
            self.reducer.record("model", "an adapter from elsewhere", "left out", "it belongs to the real base")
        return Lineage(base, adapters)

    def _without_skipped(self, lineage: Lineage) -> Lineage:
        """The result of a stage that is left out is replaced by what that stage starts from."""
        for stage in reversed(self.skipped.values()):
            made, start = stage.result, stage.start
            if made and start and lineage.base == made.base and _begins(lineage.adapters, made.adapters):
                lineage = Lineage(start.base, start.adapters + lineage.adapters[len(made.adapters) :])
        return lineage

    def _toy(self, base: ModelRef, recorded: bool) -> ModelRef:
        """The same architecture at toy size; results of stages, and models from scratch, stay."""
        if self._made_here(base):
            return base
        toy = models.toy_of(base, self.recipe, self.stage, self.files)
        if recorded:
            self.reducer.record("model", models.name_of(base), toy.now, "toy size")
            self.reducer.values.pop("model", None)
            if self.reducer.get("template") in (None, "auto") and self.stage.kind != "pretrain":
                self.reducer.values["template"] = self.engine.template(base, self.recipe.versions_of(self.stage))[0]
        return toy.term

    def _made_here(self, base: ModelRef) -> bool:
        if isinstance(base, StageRef):
            return base.key not in self.skipped
        inner = base.options.get("path")
        if isinstance(inner, StageRef):
            return inner.key not in self.skipped
        return base.name == "scratch" and base.options.get("like") is None

    def _further_models(self, start: Lineage) -> None:
        """Models besides the one in training: all are the same toy."""
        if isinstance(self.reducer.values.get("reference"), Term):
            self.reducer.drop("reference", "it is the toy that the stage starts from")
        if isinstance(reward := self.reducer.values.get("reward"), Term):
            self.reducer.values["reward"] = start.base
            self.reducer.record("reward", models.name_of(reward), "the toy it starts from", "toy size")
        if isinstance(teacher := self.reducer.values.get("teacher"), Term):
            self.reducer.values["teacher"] = start.base
            self.reducer.record("teacher", models.name_of(teacher), "the toy it starts from", "toy size")
        self._judges(start)
        if isinstance(self.reducer.values.get("resume"), Term) and self.reducer.settings().name("resume") == "file":
            self.reducer.drop("resume", "the checkpoint belongs to the real model")

    def _judges(self, start: Lineage) -> None:
        """Models that score answers, other than those of stages."""
        rewards = list(self.reducer.values.get("rewards") or ())
        for at, reward in enumerate(rewards):
            if isinstance(model := reward.options.get("model"), Term):
                rewards[at] = Term(reward.name, {**reward.options, "model": start.base})
                self.reducer.record("rewards", models.name_of(model), "the toy it starts from", "toy size")
        if rewards:
            self.reducer.values["rewards"] = rewards


def _begins(adapters: tuple[ModelRef, ...], beginning: tuple[ModelRef, ...]) -> bool:
    return adapters[: len(beginning)] == beginning


def searched(recipe: Recipe, dimensions: dict[str, list[tuple[str, Any]]]) -> list[Replacement]:
    """The searched keys, which a smoke run sets to `auto`. dimensions: by stage key, dotted keys and their spans."""
    replacements = []
    for stage in recipe.stages:
        for key, span in dimensions.get(stage.key, ()):
            where = recipe.location(span)
            replacements.append(Replacement(stage.key, key, span.text, "auto", "a smoke run tests one trial", where))
    return replacements
