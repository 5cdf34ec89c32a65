"""The study in its storage: opened or begun, held against the recipe as it is now, read as rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.observe.study import StudyPicture, TrialRow
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.search import Goal, goals_of, needed, space_of
from ftdsl.recipe.settings import shown
from ftdsl.run.project import STUDY, study_folder
from ftdsl.search import samplers, storage
from ftdsl.search.attributes import EARLIER, REASON, RELEASED, RUN, SPENT, STATE, SURPLUS, VALUES
from ftdsl.search.earlier import learn
from ftdsl.search.errors import StudyError
from ftdsl.search.halving import newest_records, number_of
from ftdsl.source import Span

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SPACE, BASE, GOALS = "space", "recipe", "goals"
"""What a study was begun with, as attributes of it."""
WITHOUT_EFFECT = ("track", "save.keep", "launch", "hardware.price", "push", "budget", "after")
"""Keys (and blocks) that change no metric: a study goes on when they change."""
RETRIES = 3


@dataclass
class OpenStudy:
    """optuna: the study; folder: where its trials lie; shared: other workers may have it open too."""

    optuna: Study
    recipe: Recipe
    folder: Path
    url: str
    goals: tuple[Goal, ...]
    space: Mapping[str, Dimension]

    @property
    def shared(self) -> bool:
        return storage.is_shared(self.url)

    @property
    def wanted(self) -> int:
        """How many trials are run."""
        assert self.recipe.search is not None
        trials = self.recipe.search.get("trials")
        if self.recipe.search.name("sampler") == "grid":
            size = samplers.grid_size(self.space, self.recipe)
            return min(size, int(trials)) if trials is not None else size
        return int(trials)

    def trials(self) -> list[FrozenTrial]:
        """All that count, each as it was last recorded: not those given back, not those of earlier studies."""
        return newest_records(
            trial for trial in self.optuna.get_trials(deepcopy=False)
            if trial.user_attrs.get(STATE) not in (SURPLUS, EARLIER) and trial.state.name != "WAITING"
        )  # fmt: skip

    def rows(self) -> list[TrialRow]:
        """The trials as views have them."""
        return [row_of(trial, self.goals) for trial in self.trials()]

    def picture(self, **more: Any) -> StudyPicture:
        """The study as it is now."""
        spaces = {name: str(space) for name, space in self.optuna.user_attrs.get(SPACE, {}).items()}
        rows = self.rows()
        for row in rows:  # of profiles that others chose
            spaces |= {name: "" for name in row.parameters if name not in spaces}
        return StudyPicture(
            name=self.recipe.name, study=self.optuna.study_name, storage=storage.masked(self.url),
            goals=[(str(goal), goal.minimize) for goal in self.goals], dimensions=spaces, wanted=self.wanted,
            trials=rows, **more,
        )  # fmt: skip


def row_of(trial: FrozenTrial, goals: tuple[Goal, ...]) -> TrialRow:
    """A trial as views have it."""
    attributes = trial.user_attrs
    state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}[trial.state.name]
    state = attributes.get(STATE, "stopped" if state == "running" and attributes.get(RELEASED) else state)
    values = dict(zip(map(str, goals), trial.values, strict=False)) if trial.values and state == "complete" else {}
    steps = trial.intermediate_values
    last = max(steps) if steps else None
    return TrialRow(
        number_of(trial), state, attributes.get(VALUES, {}), values, attributes.get(REASON, ""), attributes.get(RUN, ""),
        trial.datetime_start.timestamp() if trial.datetime_start else None,
        trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        last, abs(steps[last]) if last is not None else None, float(attributes.get(SPENT, 0.0)),
    )  # fmt: skip


def open_study(recipe: Recipe, home: Path, *, fresh: bool = False) -> OpenStudy:
    """The study of a recipe, begun where there is none.

    Raises: StudyError when its storage cannot be reached or the recipe has changed since; MissingPackageError.
    """
    storage.need_optuna()
    assert recipe.search is not None
    folder = study_folder(home, fresh=fresh)
    span = recipe.search_spans.get("storage")
    url = storage.url_of(storage.written(recipe.search.get("storage"), span), recipe.folder, folder)
    name = home.name if folder.name == STUDY else f"{home.name}{folder.name.removeprefix(STUDY)}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".begin"):  # of workers that start at once, one makes the tables and the study
        return _opened(recipe, folder, url, name)


def _opened(recipe: Recipe, folder: Path, url: str, name: str) -> OpenStudy:
    import optuna

    assert recipe.search is not None
    kept = storage.opened(
        url, recipe.search_spans.get("storage", recipe.search_spans.get("", recipe.span)), on_lost=_retry
    )
    goals, space = goals_of(recipe), space_of(recipe)
    ways = optuna.study.StudyDirection
    directions = [ways.MINIMIZE if goal.minimize else ways.MAXIMIZE for goal in goals]
    if name in [summary.study_name for summary in kept.get_all_studies()]:
        study = optuna.load_study(study_name=name, storage=kept)
        _compare(study, recipe, space, goals)
    else:
        study = optuna.create_study(study_name=name, storage=kept, directions=directions, load_if_exists=True)
    if SPACE not in study.user_attrs:
        _begin(study, recipe, space, goals)
    begun = len(study.get_trials(deepcopy=False))
    worker = os.getpid() * 1000 if storage.is_shared(url) else 0  # workers that start at once draw different values
    study.sampler = samplers.sampler_of(recipe, space, begun + worker)
    study.pruner = samplers.pruner_of(recipe) or optuna.pruners.NopPruner()
    return OpenStudy(study, recipe, folder, url, goals, space)


def _begin(study: Study, recipe: Recipe, space: Mapping[str, Dimension], goals: tuple[Goal, ...]) -> None:
    """Its first trial has the values that the recipe names."""
    assert recipe.search is not None
    learn(study, recipe, space, goals)
    study.set_user_attr(GOALS, [str(goal) for goal in goals])
    study.set_user_attr(BASE, base_of(recipe))
    study.set_metric_names([str(goal) for goal in goals])
    first = {
        name: samplers.parameter(dimension, dimension.first) for name, dimension in space.items() if dimension.first
    }
    if first and recipe.search.name("sampler") != "grid":
        study.enqueue_trial(first, skip_if_exists=True)
    study.set_user_attr(
        SPACE, {name: dimension.space for name, dimension in space.items()}
    )  # last: what follows is whole


def base_of(recipe: Recipe) -> dict[str, str]:
    """What the trials of a study have in common: the settings of the stages its goals need, where no dimension is in them."""
    wanted = needed(recipe, (goal.stage for goal in goals_of(recipe)))
    common = {}
    for stage in recipe.stages:
        if stage.key in wanted:
            searched = {dimension.key for dimension in stage.dimensions.values()}
            for key, value in stage.settings.values.items():
                if key not in searched and not any(
                    key == word or key.startswith(f"{word}.") for word in WITHOUT_EFFECT
                ):
                    common[f"{stage.key}.{key}"] = shown(value)[:200]
    return common


def _compare(study: Study, recipe: Recipe, space: Mapping[str, Dimension], goals: tuple[Goal, ...]) -> None:
    """Raises: StudyError when trials of then and now could not be compared."""
    known = study.user_attrs
    if SPACE not in known:
        return
    help = "`ftc run --fresh` begins a new study; stages that are the same are not run again"
    span = recipe.search_spans.get("", recipe.span)
    now = {name: dimension.space for name, dimension in space.items()}
    for name in dict.fromkeys((*now, *known[SPACE])):
        if now.get(name) != known[SPACE].get(name):
            where = space[name].span if name in space else span
            change = f"{known[SPACE].get(name, 'not searched')} -> {now.get(name, 'not searched')}"
            raise StudyError("FT095", f"the space of this study was another: `{name}` {change}", where, help)
    if known.get(GOALS) != [str(goal) for goal in goals]:
        text = f"the goal of this study was {', '.join(known.get(GOALS, []))}"
        raise StudyError("FT095", text, recipe.search_spans.get("goal", span), help)
    base, before = base_of(recipe), known.get(BASE, {})
    for key in dict.fromkeys((*base, *before)):
        if base.get(key) != before.get(key):
            change = f"`{key}` {before.get(key, 'unset')} -> {base.get(key, 'unset')}"
            text = f"the trials of this study were made with another recipe: {change}"
            raise StudyError("FT095", text, _span_of(key, recipe) or span, help)


def _span_of(key: str, recipe: Recipe) -> Span | None:
    name, _, rest = key.partition(".")
    stage = recipe.find(name)
    return stage.spans.get(rest, stage.span) if stage else None


def _retry(study: Study, trial: FrozenTrial) -> None:
    """A trial whose worker is lost is run again, a few times."""
    tries = int(trial.user_attrs.get("retries", 0))
    if tries < RETRIES and trial.params:
        attributes = {"retries": tries + 1, "retry_of": trial.number}
        study.enqueue_trial(trial.params, user_attrs=attributes)
