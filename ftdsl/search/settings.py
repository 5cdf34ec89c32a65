"""What the best trial of a study had, written as items of a recipe, for `settings = study("…")` of another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING, Key
from ftdsl.importers.values import written
from ftdsl.language.printing import UnwritableError
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.resolve import ResolvedStage, Trial, resolve
from ftdsl.language.values import Secret, StageRef, Term
from ftdsl.observe.study import TrialRow
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.search import goals_of, needed
from ftdsl.record import replace
from ftdsl.search.trial import TrialSource, named

OWN = ("stage", "profile", "set")
"""Where a value comes from that is the stage's own. What its file gives all stages is not copied."""
ELSEWHERE = (
    "data", "model", "to", "settings", "after", "resume", "name", "evaluate", "save", "track", "gate", "launch", "hardware",
    "push", "target", "env", "reference", "reward", "budget", "engine",
)  # fmt: skip
"""Keys and blocks about where a stage starts, what it reads and where it runs: another recipe has its own."""


def best_settings(source: TrialSource, recipe: Recipe, best: TrialRow) -> list[str]:
    """Items of the searched stage at a trial's values: `lora.rank = 113`, `full {}`."""
    trial = Trial(named(best.number), best.parameters)
    resolved = resolve(source.path, source.path.as_posix(), replace(source.options, trial=trial), source.session())
    goal = goals_of(recipe)[0].stage
    wanted = needed(recipe, [goal])
    stages = [stage for stage in resolved.stages if stage.key in wanted] if resolved else []
    trained = [stage for stage in stages if stage.declared.kind in TRAINING]
    own = [stage for stage in trained if stage.name == goal] or trained[-1:]
    return list(_items(own[0])) if own else []


def _items(stage: ResolvedStage) -> Iterator[str]:
    searched = {dimension.key for dimension in stage.dimensions.values()}
    for path in stage.blocks:
        if len(path) == 1 and path[0] in keys.methods() and not any(other[:1] == path for other in stage.values):
            yield f"{path[0]} {{}}"
    for path, value in stage.values.items():
        name, key = ".".join(path), keys.find(stage.declared.kind, path)
        own = (value.origin.kind in OWN or name in searched) and path[0] not in ELSEWHERE
        if own and isinstance(key, Key) and not _refers(value.data):
            try:
                yield f"{name} = {written(value.data, key)}"
            except UnwritableError:
                continue


def _refers(data: Any) -> bool:
    """Whether a value names what its own recipe alone has."""
    if isinstance(data, Term):
        return any(_refers(option) for option in data.options.values())
    if isinstance(data, list | tuple):
        return any(_refers(item) for item in data)
    return isinstance(data, StageRef | Secret)
