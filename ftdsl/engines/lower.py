"""Planned stages to jobs, by the function that the stage's engine has for its kind; jobs are sorted by their needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from graphlib import TopologicalSorter
from heapq import heappop, heappush

from ftdsl.engines import registry
from ftdsl.engines.jobs import Job, Reasons
from ftdsl.engines.shared import hand_offs, passthrough
from ftdsl.engines.shared.best import best_folders, lower_best
from ftdsl.engines.shared.data_stage import lower_data
from ftdsl.engines.shared.reasons import reasons_of
from ftdsl.engines.shared.run_paths import RunPaths
from ftdsl.engines.shared.scratch import lower_scratch, scratch_folders
from ftdsl.engines.shared.shell_stage import lower_shell
from ftdsl.engines.shared.sources import passes_through
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.tools import adapter_merges, model_merges, quantising, serving
from ftdsl.engines.tools.evaluation import lower_eval
from ftdsl.lint.versions import check_versions
from ftdsl.plan.engine import Abilities, EngineOf
from ftdsl.plan.plan import Plan
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.session import Session
from ftdsl.source import Span

WITHOUT_ENGINE: dict[str, Callable[[StageContext], Job]] = {"data": lower_data, "shell": lower_shell}
"""Kinds of stage that need no engine."""


def engine_of(recipe: Recipe, session: Session) -> EngineOf:
    """A function from a stage to its engine's abilities. An unknown engine is an error; the plan uses the default instead."""
    for name, span in _named(recipe):
        if registry.get(name) is None:
            help = f"engines: {', '.join(registry.names())}"
            session.sink.error("FT012", f"there is no engine `{name}`", span, help=help)

    def of(stage: Stage) -> Abilities:
        return (registry.get(recipe.engine_of(stage)) or registry.default()).abilities

    return of


def _named(recipe: Recipe) -> Iterator[tuple[str, Span]]:
    yield recipe.engine.name, recipe.span
    for stage in recipe.stages:
        if "engine" in stage.spans and recipe.engine_of(stage) != recipe.engine.name:
            yield recipe.engine_of(stage), stage.spans["engine"]


def lower(plan: Plan, session: Session) -> tuple[Job, ...]:
    """All jobs, each after those it needs."""
    recipe = plan.recipe
    for name, choice in recipe.engines.items():
        if engine := registry.get(name):
            check_versions(choice.versions, engine.title, recipe.span, session.sink)
    passthrough.check(recipe, session)
    paths = RunPaths(plan, scratch_folders(plan), best_folders(plan))
    jobs = [*lower_scratch(plan, paths, session), *lower_best(plan, paths, session)]
    for planned in plan.stages:
        engine = registry.get(planned.engine.name)
        if planned.stage.sound and engine is not None:
            context = StageContext(planned, plan, paths, session, engine)
            hand_offs.check(context)
            job = _lower_stage(context)
            jobs += [job] if job is not None else []
    return tuple(_ordered([*jobs, *paths.shared.values()]))


def _lower_stage(context: StageContext) -> Job | None:
    kind = context.stage.kind
    if kind == "data" and passes_through(context.stage.settings):
        return None
    lowering = WITHOUT_ENGINE.get(kind) or context.engine.lowerings.get(kind)
    if adapter_merges.wants(context):
        return adapter_merges.job(context)
    if model_merges.wants(context):
        return model_merges.job(context)
    if quantising.wants(context):
        return quantising.job(context)
    if serving.wants(context):
        return serving.job(context)
    if kind == "eval" and (job := lower_eval(context, lowering)) is not None:
        return job
    if lowering is not None and kind != "eval":
        return lowering(context)
    text = f"`{kind}` stages cannot be compiled for {context.engine.title} yet"
    context.session.sink.error("FT012", text, context.stage.span)
    return None


def _ordered(jobs: Sequence[Job]) -> Iterator[Job]:
    """Each after those it needs, otherwise in the given order (the heap keeps it; graphlib alone does not)."""
    position = {job.key: index for index, job in enumerate(jobs)}
    sorter = TopologicalSorter({job.key: [key for key in job.needs if key in position] for job in jobs})
    sorter.prepare()
    ready: list[int] = []
    while sorter.is_active():
        for key in sorter.get_ready():
            heappush(ready, position[key])
        job = jobs[heappop(ready)]
        yield job
        sorter.done(job.key)


def reasons(plan: Plan, job: Job) -> Reasons:
    """What decides each line of a job's files."""
    planned = next((planned for planned in plan.stages if planned.key == job.key), None)
    return reasons_of(planned.engine.name if planned else plan.recipe.engine.name, planned, job)
