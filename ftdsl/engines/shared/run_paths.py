"""Paths relative to the run folder: results of stages, files of the recipe, models and adapters."""

from __future__ import annotations

from dataclasses import field
from pathlib import PurePosixPath
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import Plan
from ftdsl.recipe.recipe import ModelRef
from ftdsl.record import frozen


def seen_from_run(path: str) -> str:
    """A path of the recipe, relative to the run folder (which links the recipe's folder as `inputs`).

    URLs and absolute paths stay as they are; `run://x` is `x` in the run folder.
    """
    if path.startswith("run://"):
        return path.removeprefix("run://")
    if "://" in path or path.startswith(("/", "~")):
        return path
    return str(PurePosixPath("inputs") / path)


@frozen
class RunPaths:
    """Paths of a plan's stages and models.

    scratch, best: folders of `scratch(…)` and `best(…)` values, by `written_id`;
    shared: jobs that several stages need, by what they make; filled while stages are lowered.
    """

    plan: Plan
    scratch: dict[str, str]
    best: dict[str, str] = field(default_factory=dict)
    shared: dict[str, Job] = field(default_factory=dict)

    def result(self, ref: StageRef) -> str:
        """Path of a stage's result; of a data stage, the folder that has its parts as files."""
        planned = self.plan.stage(ref.key)
        if planned.stage.kind == "data":
            return planned.folder
        to = planned.stage.settings.get("to")
        return seen_from_run(to) if to else f"{planned.folder}/result"

    def folder(self, ref: StageRef) -> str:
        return self.plan.stage(ref.key).folder

    def rows(self, ref: StageRef) -> str:
        """The file of a data stage's part."""
        return f"{self.folder(ref)}/{ref.part or 'train'}.jsonl"

    def model(self, where: ModelRef) -> str:
        """The value of `model_name_or_path`."""
        if isinstance(where, StageRef):
            return self.result(where)
        if where.name == "scratch":
            return f"{self.scratch[written_id(where)]}/result"
        if where.name == "best":
            return f"{self.best[written_id(where)]}/result"
        return self._source(where)

    def adapter(self, where: ModelRef) -> str:
        """One value of `adapter_name_or_path`."""
        if isinstance(where, StageRef):
            return self.result(where)
        if where.name == "best":
            return f"{self.best[written_id(where)]}/result"
        inner = where.options.get("where", where)
        return self.result(inner) if isinstance(inner, StageRef) else self._source(inner)

    def _source(self, term: Term | str) -> str:
        if isinstance(term, str):
            return term
        source: Any = term.options.get("id", term.options.get("path", term.name))
        if isinstance(source, StageRef):
            return self.result(source)
        return seen_from_run(source) if term.name == "file" else str(source)


def written_id(term: Term) -> str:
    """A key for a `scratch(…)` or `best(…)` value: equal values are one model."""
    return repr(sorted((key, str(value)) for key, value in term.options.items()))
