"""Warm start: the trials of earlier studies over the same space, given to the sampler of a new one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.observe.study import StudyPicture, read
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.search import Goal
from ftdsl.search import samplers
from ftdsl.search.attributes import EARLIER, STATE
from ftdsl.search.errors import StudyError

if TYPE_CHECKING:
    from optuna import Study


def learn(study: Study, recipe: Recipe, space: Mapping[str, Dimension], goals: tuple[Goal, ...]) -> None:
    """Add the finished trials of the studies that `search.earlier` names. Raises: StudyError where one cannot be compared."""
    from optuna.trial import create_trial

    assert recipe.search is not None
    pictures = [_picture(recipe, Path(str(name)), space, goals) for name in recipe.search.get("earlier") or ()]
    distributions = {name: samplers.distribution(dimension) for name, dimension in space.items()}
    for picture in pictures:
        for row in picture.trials:
            if row.ended_well and row.parameters.keys() == space.keys():
                values = [row.values[str(goal)] for goal in goals]
                parameters = {name: samplers.parameter(space[name], text) for name, text in row.parameters.items()}
                attributes = {STATE: EARLIER, "study": picture.name, "trial": row.number}
                study.add_trial(
                    create_trial(
                        params=parameters, distributions=distributions, values=values, user_attrs=attributes
                    )
                )  # fmt: skip


def _picture(recipe: Recipe, path: Path, space: Mapping[str, Dimension], goals: tuple[Goal, ...]) -> StudyPicture:
    folder = path if path.is_absolute() else recipe.folder / path
    picture = read(folder)
    span = recipe.search_spans.get("earlier", recipe.span)
    if picture is None:
        help = "name the folder that holds its `study.json`, such as `runs/NAME/study`"
        raise StudyError("FT094", f"there is no study in `{path.as_posix()}`", span, help)
    help = "trials of another space or goal teach nothing here; leave it out"
    if list(picture.goals) != [(str(goal), goal.minimize) for goal in goals]:
        other = ", ".join(f"{'minimize' if less else 'maximize'}({name})" for name, less in picture.goals)
        raise StudyError("FT095", f"the goal of the study in `{path.as_posix()}` is {other}", span, help)
    for name in dict.fromkeys((*space, *picture.dimensions)):
        now = space[name].space if name in space else "not searched"
        if (then := picture.dimensions.get(name, "not searched")) != now:
            text = f"the study in `{path.as_posix()}` has another space: `{name}` {then}, here {now}"
            raise StudyError("FT095", text, span, help)
    return picture
