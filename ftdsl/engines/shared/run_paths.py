"""Where things lie, as the run folder sees them: results of stages, files of the recipe, models and adapters."""

from __future__ import annotations

from dataclasses import field
from pathlib import PurePosixPath
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import Plan
from ftdsl.recipe.recipe import Where
from ftdsl.record import frozen


def seen_from_run(path: str) -> str:
    """A path as the recipe writes it, seen from the run folder.

    URLs and absolute paths stay as they are; `run://x` is the run folder's own.
    """
    if path.startswith("run://"):
        return path.removeprefix("run://")
    if "://" in path or path.startswith(("/", "~")):
        return path
    return str(PurePosixPath("inputs") / path)


@frozen
class RunPaths:
    """Folders of a plan's stages, of its scratch models and choices of the best (by the options they were written with).

    shared: jobs that several stages need, by what they make; filled while stages are lowered.
    """

    plan: Plan
    scratch: dict[str, str]
    best: dict[str, str] = field(default_factory=dict)
    shared: dict[str, Job] = field(default_factory=dict)

    def result(self, ref: StageRef) -> str:
        """Where a stage puts what it makes; a data stage's parts are files of its folder."""
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

    def model(self, where: Where) -> str:
        """What goes into `model_name_or_path`."""
        if isinstance(where, StageRef):
            return self.result(where)
        if where.name == "scratch":
            return f"{self.scratch[written_id(where)]}/result"
        if where.name == "best":
            return f"{self.best[written_id(where)]}/result"
        return self._source(where)

    def adapter(self, where: Where) -> str:
        """One of `adapter_name_or_path`."""
        if isinstance(where, StageRef):
            return self.result(where)
        if where.name == "best":
            return f"{self.best[written_id(where)]}/result"
        inner = where.options.get("where", where)
        return self.result(inner) if isinstance(inner, StageRef) else self._source(inner)

    def _source(self, term: Term | str) -> str:
        if isinstance(term, str):
            return term
        place: Any = term.options.get("id", term.options.get("path", term.name))
        if isinstance(place, StageRef):
            return self.result(place)
        return seen_from_run(place) if term.name == "file" else str(place)


def written_id(term: Term) -> str:
    """Equal `scratch(…)` or `best(…)` values are one model."""
    return repr(sorted((key, str(value)) for key, value in term.options.items()))
