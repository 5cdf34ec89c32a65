"""The samplers and pruners of a recipe, as Optuna's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.rules.search import POINTS
from ftdsl.search.errors import StudyError
from ftdsl.search.halving import halving_of

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

PROFILE = "profile"


def sampler_of(recipe: Recipe, space: Mapping[str, Dimension], begun: int) -> BaseSampler:
    """begun: trials there are already, and what sets a worker apart: the same numbers must not be drawn again.

    Raises: StudyError when it cannot search this space, or a package is missing.
    """
    from optuna import samplers

    assert recipe.search is not None
    term = recipe.search.get("sampler")
    name, options = (term.name, dict(term.options)) if isinstance(term, Term) else ("tpe", {})
    seed = (int(options.get("seed", recipe.seed)) + begun) % 2**32
    startup = int(options.get("startup", 10))
    span = recipe.search_spans.get("sampler", recipe.search_spans.get("", recipe.span))
    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "grid":
        if PROFILE in space:
            raise StudyError(
                "FT093", "a grid over profiles is an axis", span, "write `profile in […]`, or `sampler = tpe`"
            )
        return _grid(dict(grid_of(space, int(options.get("points", POINTS)))), seed)
    if name == "cmaes":
        if find_spec("cmaes") is None:
            raise StudyError("FT093", "`cmaes` needs the package of that name", span, "type: pip install cmaes")
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if name == "gp":
        if missing := [package for package in ("torch", "scipy") if find_spec(package) is None]:
            text = f"`gp` needs {' and '.join(missing)} beside ftc"
            raise StudyError("FT093", text, span, f"type: pip install {' '.join(missing)}")
        return samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=PROFILE in space)


def _grid(values: dict[str, list[Any]], seed: int) -> BaseSampler:
    from optuna.samplers import GridSampler

    class Grid(GridSampler):
        """Its end is seen by `is_exhausted`: Optuna's own way to stop is for its own loop."""

        def after_trial(self, *_: Any) -> None: ...

    return Grid(values, seed=seed)


def grid_of(space: Mapping[str, Dimension], points: int) -> Mapping[str, list[Any]]:
    """The values of each dimension in a grid: all choices and steps, else so many points of a range, both ends included."""
    return {name: _values(dimension, points) for name, dimension in space.items()}


def _values(dimension: Dimension, points: int) -> list[Any]:
    low, high = dimension.low, dimension.high
    if dimension.kind == "choice":
        return list(dimension.choices)
    if dimension.step:
        count = int((high - low) / dimension.step + 1e-9)
        values = [low + at * dimension.step for at in range(count + 1)]
    elif dimension.kind == "log":
        values = [
            math.exp(math.log(low) + (math.log(high) - math.log(low)) * at / (points - 1)) for at in range(points)
        ]
    else:
        values = [low + (high - low) * at / (points - 1) for at in range(points)]
    numbers = [dimension.number(dimension.text(number)) for number in values]
    return list(dict.fromkeys(int(number) if dimension.whole else number for number in numbers))


def grid_size(space: Mapping[str, Dimension], recipe: Recipe) -> int:
    """How many points a grid has."""
    term = recipe.search.get("sampler") if recipe.search else None
    points = int(term.options.get("points", POINTS)) if isinstance(term, Term) else POINTS
    return math.prod(len(values) for values in grid_of(space, points).values())


def pruner_of(recipe: Recipe) -> BasePruner | None:
    """None where Optuna stops none. Steps are those of the trainer."""
    from optuna import pruners

    assert recipe.search is not None
    term = recipe.search.get("pruner")
    name, options = (term.name, dict(term.options)) if isinstance(term, Term) else ("none", {})
    after = options.get("after")
    steps = int(after.number) if isinstance(after, Amount) else 0
    reduction = int(options.get("reduction", 3))
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=int(options.get("startup", 5)), n_warmup_steps=steps)
    if name == "asha":
        if halving_of(recipe) is not None:
            return None  # the study's loop pauses and continues them
        return pruners.SuccessiveHalvingPruner(min_resource=steps or "auto", reduction_factor=reduction)
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=steps or 1, reduction_factor=reduction)
    if name == "patient":
        return pruners.PatientPruner(None, patience=int(options.get("patience", 3)))
    return None


def suggested(trial: Any, dimension: Dimension) -> str:
    """A value for a dimension, as a recipe writes it. trial: Optuna's, which records it."""
    if dimension.kind == "choice":
        return str(trial.suggest_categorical(dimension.name, list(dimension.choices)))
    log = dimension.kind == "log"
    if dimension.whole:
        step = int(dimension.step or 1)
        return dimension.text(
            trial.suggest_int(dimension.name, int(dimension.low), int(dimension.high), log=log, step=step)
        )
    return dimension.text(
        trial.suggest_float(dimension.name, dimension.low, dimension.high, log=log, step=dimension.step)
    )


def distribution(dimension: Dimension) -> Any:
    """Optuna's distribution of a dimension: the one that `suggested` asks for."""
    from optuna import distributions

    if dimension.kind == "choice":
        return distributions.CategoricalDistribution(list(dimension.choices))
    log = dimension.kind == "log"
    if dimension.whole:
        step = int(dimension.step or 1)
        return distributions.IntDistribution(int(dimension.low), int(dimension.high), log=log, step=step)
    return distributions.FloatDistribution(dimension.low, dimension.high, log=log, step=dimension.step)


def parameter(dimension: Dimension, text: str) -> Any:
    """A value as Optuna has it. Raises: ValueError."""
    if dimension.kind == "choice":
        return text
    return int(dimension.number(text)) if dimension.whole else dimension.number(text)
