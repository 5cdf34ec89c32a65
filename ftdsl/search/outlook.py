"""What a study will take: points of its space are drawn, and each is checked and planned as a trial would be. No Optuna here."""

from __future__ import annotations

import math
import random
from collections import Counter

from ftdsl.diagnostics import Severity
from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.observe.outlook import StudyOutlook
from ftdsl.pipeline import check
from ftdsl.plan.forecast import Forecast, forecasts
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.search import goals_of, needed, reached, space_of
from ftdsl.record import replace
from ftdsl.search.samplers import grid_size
from ftdsl.search.trial import TrialSource, values_for
from ftdsl.session import Session

POINTS = 16
"""Points that are drawn: a share of a third is known to about 12 in 100."""


def outlook_of(source: TrialSource, recipe: Recipe) -> StudyOutlook:
    """recipe: at the values that checks take. The same points are drawn for the same recipe."""
    assert recipe.search is not None
    rng = random.Random(recipe.seed)
    space = space_of(recipe)
    reasons: Counter[str] = Counter()
    seconds, money, shared = [], [], 0.0
    for number in range(POINTS):
        trial = values_for(source, number, space, lambda dimension: drawn(dimension, rng))
        session = source.session()
        checked = check(source.path, replace(source.options, trial=trial), session)
        errors = [problem for problem in session.sink.ordered() if problem.severity is Severity.ERROR]
        if errors or checked.plan is None:
            reasons[errors[0].message if errors else "it has no plan"] += 1
            continue
        own = checked.plan.recipe
        wanted, moved = needed(own, (goal.stage for goal in goals_of(own))), reached(own)
        by_stage = forecasts(checked.plan, Session(engine_python=source.engine_python))
        here = [forecast for key, forecast in by_stage.items() if key in wanted and key in moved]
        if here and all(forecast.seconds for forecast in here):
            seconds.append(sum(forecast.seconds for forecast in here))
            money.append(sum(forecast.money for forecast in here))
        shared = _shared(by_stage, wanted - moved)
    search = recipe.search
    trials = search.get("trials")
    size = grid_size(space, recipe) if search.name("sampler") == "grid" else 0
    return StudyOutlook(
        goals=", ".join(f"{'minimize' if goal.minimize else 'maximize'}({goal})" for goal in goals_of(recipe)),
        sampler=search.name("sampler") or "tpe", pruner=search.name("pruner"),
        wanted=min(size, int(trials)) if size and trials is not None else size or int(trials),
        parallel=int(search.get("parallel") or 1),
        dimensions={name: dimension.space for name, dimension in space.items()},
        points=POINTS, refused=sum(reasons.values()), reasons=tuple(reasons.most_common(3)),
        seconds=tuple(sorted(seconds)), money=tuple(sorted(money)) if any(money) else (), shared=shared,
        budget_seconds=float(recipe.budget.get("time", 0.0)), budget_cost=float(recipe.budget.get("cost", 0.0)),
    )  # fmt: skip


def _shared(by_stage: dict[str, Forecast], keys: frozenset[str]) -> float:
    return sum(forecast.seconds for key, forecast in by_stage.items() if key in keys)


def drawn(dimension: Dimension, rng: random.Random) -> str:
    """A value of a dimension, each as likely as the distribution says."""
    if dimension.kind == "choice":
        return rng.choice(dimension.choices)
    low, high = dimension.low, dimension.high
    if dimension.kind == "log":
        return dimension.text(math.exp(rng.uniform(math.log(low), math.log(high))))
    if dimension.step:
        return dimension.text(low + dimension.step * rng.randint(0, int((high - low) / dimension.step + 1e-9)))
    return dimension.text(rng.uniform(low, high))
