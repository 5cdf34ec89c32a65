"""A search that can be carried out: its goals are measured, its pruner sees values, its dimensions reach a goal."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.credentials import shape_of
from ftdsl.diagnostics.suggest import closest
from ftdsl.language.resolve.dimensions import Dimension
from ftdsl.language.values import Amount, StageRef, Term
from ftdsl.recipe.literal_secrets import CODE
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.rules.evaluation import SCORES, gives, measured_scores
from ftdsl.recipe.search import OF_EVERY_STAGE, TRAINED, goals_of, needed, reached, space_of, stages_called
from ftdsl.session import Session
from ftdsl.source import Span

SCHEMES = ("sqlite", "postgresql")
POINTS = 5
"""Values of a range in a grid, where the recipe does not say how many."""
LARGEST_GRID = 100_000
"""Points of a grid: Optuna lists all of them before the first trial."""


def search_is_whole(recipe: Recipe, session: Session) -> None:
    """Everything that a study would find out too late."""
    if recipe.search is None or not any(stage.dimensions for stage in recipe.stages):
        return
    span = recipe.search_spans.get("", recipe.span)
    if not recipe.search.items("goal"):
        if "goal" not in recipe.search_spans or recipe.search.get("goal") == []:
            help = "write `goal = minimize(sft.eval_loss)`"
            session.sink.error("FT011", "a search needs a `goal`", _goal_span(recipe), help=help)
        return
    if recipe.search.get("trials") is None and recipe.search.name("sampler") != "grid":
        session.sink.error("FT011", "a search needs `trials`", span, help="write `trials = 20`")
    measured = [_measured(term, recipe, session) for term in recipe.search.items("goal")]  # each is reported
    if not all(measured):
        return
    _goals_differ(recipe, session)
    _every_dimension_counts(recipe, session)
    _pruner_sees_values(recipe, session)
    _sampler_can(recipe, session)
    _storage_is_known(recipe, session)
    _destinations_differ(recipe, session)


def _goal_span(recipe: Recipe) -> Span:
    return recipe.search_spans.get("goal", recipe.search_spans.get("", recipe.span))


def _measured(term: Term, recipe: Recipe, session: Session) -> bool:
    metric, span = term.options.get("metric"), _goal_span(recipe)
    names = list(dict.fromkeys(stage.name for stage in recipe.stages))
    if not isinstance(metric, StageRef) or not metric.part:
        named = metric.stage if isinstance(metric, StageRef) else str(metric).partition(".")[0]
        guess = None if named in names else closest(named, names)
        searched = next((stage.name for stage in recipe.stages if stage.dimensions), "sft")
        text = f"`{span.text}` names no metric of a stage"
        label = f"did you mean `{guess}`?" if guess and "." in str(metric) else ""
        help = f"write `{term.name}({searched}.eval_loss)`; stages here: {', '.join(names)}"
        session.sink.error("FT090", text, span, label=label, help=help)
        return False
    stages = stages_called(recipe, metric.stage)
    known = next((metrics for stage in stages if (metrics := _metrics(stage, recipe, session)) is not None), None)
    ending = any(stage.kind == "eval" and gives(stage, metric.part, recipe, session) for stage in stages)
    if known is None or ending or metric.part in (*known, *OF_EVERY_STAGE):
        return all(_evaluates(stage, metric.part, span, session) for stage in stages)
    guess = closest(metric.part, [*known, *OF_EVERY_STAGE])
    session.sink.error(
        "FT090", f"`{metric.stage}` gives no `{metric.part}`", span, label=f"did you mean `{guess}`?" if guess else "",
        help=f"it gives: {', '.join((*known, *OF_EVERY_STAGE))}",
    )  # fmt: skip
    return False


def _goals_differ(recipe: Recipe, session: Session) -> None:
    """A metric is one goal, in one direction: of what is wanted both ways every trial is as good as any other."""
    metrics = [str(goal) for goal in goals_of(recipe)]
    for at, metric in enumerate(metrics):
        if metric in metrics[:at]:
            session.sink.error("FT006", f"`{metric}` is two goals", _goal_span(recipe), help="name each metric once")


def _metrics(stage: Stage, recipe: Recipe, session: Session) -> tuple[str, ...] | None:
    """The metrics of a stage's result; None where only its code knows."""
    if stage.kind in TRAINING:
        asked = stage.settings.names("evaluate.metrics")
        rewards = ("reward", "first_reward") if stage.kind == "grpo" else ()
        return (
            *TRAINED,
            *rewards,
            *(f"eval_{name}" for member in asked for name in SCORES.get(member, ()) if name != "loss"),
        )
    if stage.kind == "eval":
        return tuple(dict.fromkeys(measured_scores(stage, recipe, session)))
    if stage.kind == "quantize" and stage.settings.get("calibrate") is not None:
        return ("bytes", "perplexity", "perplexity_before")
    return ("bytes",) if stage.kind in ("merge", "quantize") else None


def _evaluates(stage: Stage, metric: str, span: Span, session: Session) -> bool:
    if stage.kind not in TRAINING or not metric.startswith("eval_") or stage.settings.get("evaluate.data"):
        return True
    help = f"write `evaluate {{ data = 5% }}` in `{stage.name}`, or search for `{stage.name}.train_loss`"
    session.sink.error("FT090", f"`{stage.name}` evaluates nothing, so it gives no `{metric}`", span, help=help)
    return False


def _every_dimension_counts(recipe: Recipe, session: Session) -> None:
    counted: Mapping[str, Dimension] = space_of(recipe)
    for stage in recipe.stages:
        for name, dimension in stage.dimensions.items():
            if name not in counted:
                text = f"`{dimension.key}` is searched, and no goal depends on `{stage.name}`"
                session.sink.error("FT092", text, dimension.span, help="fix it, or name a metric of what follows it")


def _pruner_sees_values(recipe: Recipe, session: Session) -> None:
    assert recipe.search is not None
    if (name := recipe.search.name("pruner") or "none") == "none":
        return
    span, goals = recipe.search_spans.get("pruner", recipe.span), goals_of(recipe)
    if len(goals) > 1:
        text = f"`{name}` cannot compare trials that have {len(goals)} goals"
        session.sink.error("FT091", text, span, help="write `pruner = none`, or one goal")
        return
    stages = [recipe.stage(key) for key in needed(recipe, [goals[0].stage])]
    if not {stage.kind for stage in stages} & {*TRAINING, "shell"}:
        session.sink.error(
            "FT091", f"`{name}` stops trainings, and none comes before `{goals[0]}`", span, help="drop `pruner`"
        )
        return
    lengths = [stage.settings.get("duration") for stage in stages if stage.kind in (*TRAINING, "shell")]
    steps = [length.number for length in lengths if isinstance(length, Amount) and length.unit == "steps"]
    for after in _options(recipe, "pruner", "after"):
        if len(steps) == len(lengths) and after.number >= max(steps):
            text = f"`{name}` stops nothing: trials end at step {max(steps):g}, and it begins after {after.number:g}"
            session.sink.warning("FT225", text, span, help=f"write `after = {max(1, max(steps) // 3):g} steps`")


def _sampler_can(recipe: Recipe, session: Session) -> None:
    assert recipe.search is not None
    name, span = recipe.search.name("sampler"), recipe.search_spans.get("sampler", recipe.span)
    space = list(space_of(recipe).values())
    if name == "grid":
        points = next((int(value) for value in _options(recipe, "sampler", "points")), POINTS)
        size = prod(dimension.values_in_grid(points) for dimension in space)
        if size > LARGEST_GRID:
            text = f"a grid over these dimensions has {size:,} points, and at most {LARGEST_GRID:,} can be listed"
            help = "write larger steps or fewer `points`, or `sampler = tpe`"
            session.sink.error("FT093", text, span, help=help)
    if name == "cmaes" and len(goals_of(recipe)) > 1:
        session.sink.error("FT093", "`cmaes` has one goal", span, help="write `sampler = tpe`")
    elif name == "cmaes" and all(dimension.kind == "choice" for dimension in space):
        session.sink.error(
            "FT093", "`cmaes` searches ranges, and every dimension is a choice", span, help="write `sampler = tpe`"
        )


def _options(recipe: Recipe, key: str, name: str) -> list[Any]:
    term = recipe.search.get(key) if recipe.search else None
    return [term.options[name]] if isinstance(term, Term) and name in term.options else []


def _storage_is_known(recipe: Recipe, session: Session) -> None:
    assert recipe.search is not None
    storage = recipe.search.get("storage")
    if not isinstance(storage, str):
        return  # a secret, read when the study is opened
    if why := shape_of(storage):
        span = recipe.search_spans.get("storage", recipe.span)
        help = 'write `storage = secret("STUDY_URL")`'
        session.sink.error(CODE, f"`storage` contains {why}, and would be written down", span, help=help)
        return
    scheme = storage.partition("://")[0].partition("+")[0] if "://" in storage else ""
    if scheme not in SCHEMES:
        span = recipe.search_spans.get("storage", recipe.span)
        help = "write `sqlite:///study.db` or `postgresql://host/database`"
        session.sink.error(
            "FT094", f"a study is kept in SQLite or PostgreSQL, not in `{scheme or storage}`", span, help=help
        )


def _destinations_differ(recipe: Recipe, session: Session) -> None:
    """Each trial has a folder of its own; what `to` names would be shared by all of them."""
    several = reached(recipe) & needed(recipe, (goal.stage for goal in goals_of(recipe)))
    for stage in recipe.stages:
        span = stage.spans.get("to")
        if (
            stage.key in several
            and span is not None
            and isinstance(stage.settings.get("to"), str)
            and "{run}" not in span.text
        ):
            text = f"every trial of `{stage.name}` would be put in `{stage.settings.get('to')}`"
            session.sink.error("FT082", text, span, help='write `{run}` into it: `to = "out/{run}"`')
