"""What a recipe searches: goals, the stages they depend on, and the dimensions that reach them. No Optuna here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.record import frozen

OF_EVERY_STAGE = ("seconds", "memory", "size")
"""What any stage can be held to besides its metrics: how long it took, most memory seen (bytes), bytes of what it made."""
TRAINED = ("eval_loss", "train_loss", "first_loss", "last_loss")


@frozen(eq=True)
class Goal:
    """A metric of a stage, and whether less of it is better."""

    stage: str
    metric: str
    minimize: bool

    def __str__(self) -> str:
        return f"{self.stage}.{self.metric}"


def goals_of(recipe: Recipe) -> tuple[Goal, ...]:
    """The goals that name a stage's metric, in order."""
    result = []
    for term in recipe.search.items("goal") if recipe.search else []:
        metric = term.options.get("metric") if isinstance(term, Term) else None
        if isinstance(metric, StageRef) and metric.part:
            result.append(Goal(metric.stage, metric.part, term.name in ("minimize", "lowest")))
    return tuple(result)


def stages_called(recipe: Recipe, name: str) -> list[Stage]:
    """All variants of a stage."""
    return [stage for stage in recipe.stages if stage.name == name]


def needed(recipe: Recipe, names: Iterable[str]) -> frozenset[str]:
    """Keys of the stages of these names, and of all they need."""
    todo = [stage.key for name in names for stage in stages_called(recipe, name)]
    result: set[str] = set()
    while todo:
        key = todo.pop()
        stage = recipe.find(key)
        if key not in result and stage is not None:
            result.add(key)
            todo += [*stage.needs, *stage.parents]
    return frozenset(result)


def reached(recipe: Recipe) -> frozenset[str]:
    """Keys of the stages that a dimension reaches: their own, and those that need one that is reached."""
    result = {stage.key for stage in recipe.stages if stage.dimensions}
    for stage in recipe.stages:  # each comes after what it needs
        if result & {*stage.needs, *stage.parents}:
            result.add(stage.key)
    return frozenset(result)


def space_of(recipe: Recipe) -> Mapping[str, Dimension]:
    """The dimensions of the stages that the goals depend on, by name."""
    wanted = needed(recipe, (goal.stage for goal in goals_of(recipe)))
    return {
        name: dimension
        for stage in recipe.stages
        if stage.key in wanted
        for name, dimension in stage.dimensions.items()
    }


def is_searched(recipe: Recipe) -> bool:
    """Whether there is something to search."""
    return recipe.search is not None and bool(space_of(recipe))
