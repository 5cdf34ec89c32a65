"""ASHA (https://arxiv.org/abs/1810.05934): trials are paused at a rung, and continued from their checkpoint once they are
among the best there. Optuna's own pruner ends them for good.

A trial that has ended takes nothing more in Optuna's storage, so what is continued has a record of its own, which replaces the
first: the trial keeps its number and its folder, and counts once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.search import goals_of
from ftdsl.search.attributes import CONTINUES, STATE, STEPS, WORKER
from ftdsl.search.values import watched_by

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

REDUCTION = 3


def number_of(trial: FrozenTrial) -> int:
    """The number of a trial, which its later records keep."""
    return int(trial.user_attrs.get(CONTINUES, trial.number))


def last_step(trial: FrozenTrial) -> int:
    """Of its last report; -1 where there is none."""
    return max(trial.intermediate_values, default=-1)


def newest_records(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Of each trial its last record, by number."""
    newest = {number_of(trial): trial for trial in sorted(trials, key=lambda trial: trial.number)}
    return [newest[number] for number in sorted(newest)]


@dataclass(frozen=True)
class Halving:
    """first: steps of the first rung, 0 for the share `1 / reduction^2` of the training; reduction: of the trials at a rung one
    in so many goes on, to so many times the steps; more: whether more of the reported value is better.
    """

    first: int = 0
    reduction: int = REDUCTION
    more: bool = False

    def rungs(self, total: int) -> list[int]:
        """Steps at which a training of so many steps may be paused, in order."""
        step = self.first or max(1, round(total / self.reduction**2))
        steps = []
        while step < total:
            steps.append(step)
            step *= self.reduction
        return steps

    def goes_on(self, trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> bool:
        """Whether a trial that runs continues after its last report."""
        steps = sorted(trial.intermediate_values)
        reached = self._reached(trial)
        if not reached or (len(steps) > 1 and steps[-2] >= reached[-1]):
            return True  # it was judged at this rung by an earlier report
        others = [other for other in trials if number_of(other) != number_of(trial)]
        order = self._ordered(reached[-1], [*others, trial])
        return number_of(trial) in order[: len(order) // self.reduction]

    def next(self, trials: Iterable[FrozenTrial], host: str, *, last: bool = False) -> FrozenTrial | None:
        """The paused trial to continue, those that came furthest first; None where none is among the best of its rung.

        host: whose checkpoints are here; last: there are no other trials any more, so the best one is continued in any case.
        """
        trials = list(trials)
        paused = {
            number_of(trial): trial for trial in trials
            if trial.state.name == "PRUNED" and STATE not in trial.user_attrs and trial.user_attrs.get(WORKER) == host
        }  # fmt: skip
        furthest = {number: max(reached) for number, trial in paused.items() if (reached := self._reached(trial))}
        for rung in sorted(set(furthest.values()), reverse=True):
            order = self._ordered(rung, trials)
            chosen = order if last else order[: len(order) // self.reduction]
            here = [number for number in chosen if furthest.get(number) == rung]
            if here:
                return paused[here[0]]
        return None

    def _reached(self, trial: FrozenTrial) -> list[int]:
        """The rungs that a trial came to. A stage that does not say how many steps it has may have any number of them."""
        last, total = max(trial.intermediate_values, default=0), int(trial.user_attrs.get(STEPS, 0))
        if not total and not self.first:
            return []
        return [rung for rung in self.rungs(total or last + 1) if rung <= last]

    def _ordered(self, rung: int, trials: Iterable[FrozenTrial]) -> list[int]:
        """The numbers of all trials that came to a rung, the best first. Those that failed are left out."""
        values = []
        for trial in trials:
            at = [step for step in trial.intermediate_values if step >= rung]
            value = trial.intermediate_values[min(at)] if at else math.nan
            if math.isfinite(value) and trial.state.name != "FAIL":
                values.append((-value if self.more else value, number_of(trial)))
        return [number for _, number in sorted(values)]


def halving_of(recipe: Recipe) -> Halving | None:
    """How trials are paused and continued; None where the recipe asks for no ASHA, or its trials cannot be continued."""
    term = recipe.search.get("pruner") if recipe.search else None
    goals = goals_of(recipe)
    if not isinstance(term, Term) or term.name != "asha" or not goals or not resumes(recipe):
        return None
    after = term.options.get("after")
    steps = int(after.number) if isinstance(after, Amount) else 0
    return Halving(steps, int(term.options.get("reduction", REDUCTION)), not goals[0].minimize)


def resumes(recipe: Recipe) -> bool:
    """Whether a paused trial is continued: as `resume` says, else where the stage that is watched is a training that can be."""
    assert recipe.search is not None
    term, watched = recipe.search.get("pruner"), watched_by(goals_of(recipe)[0], recipe)
    stage = recipe.find(watched.stage) if watched else None
    if stage is None:
        return False
    asked = term.options.get("resume") if isinstance(term, Term) else None
    able = stage.kind in TRAINING and stage.settings.get("save.resumable") is not False
    return able if asked is None else bool(asked)


def continued(study: Study, trial: FrozenTrial) -> int:
    """A new record of a paused trial, which runs; its identity in the storage. It takes no further point of a grid."""
    from optuna.trial import TrialState, create_trial

    attributes = {**trial.user_attrs, CONTINUES: number_of(trial)}
    record = create_trial(
        state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions, user_attrs=attributes,
        intermediate_values=trial.intermediate_values, system_attrs=trial.system_attrs,
    )  # fmt: skip
    return int(study._storage.create_new_trial(study._study_id, template_trial=record))
