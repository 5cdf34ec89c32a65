"""The pipeline: resolve, build, plan, lower, render. Only this module calls the phases in sequence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ftdsl.language.resolve.resolve import Options, Resolved, resolve
from ftdsl.record import frozen
from ftdsl.session import Session

if TYPE_CHECKING:
    from ftdsl.engines.jobs import Job
    from ftdsl.plan.plan import Plan
    from ftdsl.recipe.recipe import Recipe
    from ftdsl.targets.compiled import Compiled
    from ftdsl.targets.target import Target


@frozen
class Checked:
    """The results of the phases; None or empty for those that an error prevented."""

    resolved: Resolved | None = None
    recipe: Recipe | None = None
    plan: Plan | None = None
    jobs: tuple[Job, ...] = ()


def check(path: Path, options: Options, session: Session) -> Checked:
    """Run all phases up to the jobs. An error stops neither other stages nor independent checks (docs/adr/0011)."""
    from ftdsl.recipe.build import build

    resolved = resolve(path, path.as_posix(), options, session)
    if resolved is None:
        return Checked()
    recipe = build(resolved, path.parent, session)
    if not recipe.stages:
        return Checked(resolved, recipe)
    from ftdsl.diagnostics import allow
    from ftdsl.engines.lower import engine_of, lower
    from ftdsl.lint.check import overridable
    from ftdsl.plan.choose import plan as choose
    from ftdsl.recipe.literal_secrets import CODE

    plan = choose(recipe, session, engine_of(recipe, session))
    jobs = lower(plan, session)
    allow.apply(
        session.sink,
        [resolved.module.file.source],
        lambda: overridable() | {CODE},
        complete=not (options.profiles or options.sets),
    )
    return Checked(resolved, recipe, plan, jobs)


def compile_recipe(
    path: Path,
    options: Options,
    session: Session,
    *,
    frozen: bool = False,
    smoke: bool = False,
    target: str = "",
    study: bool = False,
) -> Compiled | None:
    """The artifacts in memory; None and diagnostics if there are errors. Executes nothing, writes nothing.

    frozen: the lock must match; smoke: compile the reduced recipe (the real one must have no errors either); target: how jobs
    are started, else as the recipe says, else bash; a smoke run is always this machine's.
    study: for a study, which sets the searched keys by `options.trial`; without a trial they have representative values.
    """
    from ftdsl.plan import measured
    from ftdsl.targets import lock

    session.elsewhere |= smoke  # generated rows replace data that is not on this machine
    lock_path = lock.path_of(path)
    locked = lock.read(lock_path, session)
    if frozen and locked:
        session.env, session.pins = {**session.env, measured.VARIABLE: "none", **locked.env}, locked.pins
    checked = check(path, options, session)
    if smoke:
        session.sink.soften("FT615")  # the stage is skipped, the others are tested
    if session.sink.failed or checked.plan is None or checked.resolved is None or checked.recipe is None:
        return None
    if not checked.jobs:
        return None
    if not (smoke or study):
        report_search(checked.resolved, session)
    if session.sink.failed:
        return None
    from ftdsl.recipe.validate import validate
    from ftdsl.targets.artifacts import compile_files
    from ftdsl.targets.compiled import Compiled
    from ftdsl.targets.options import named

    validate(checked.recipe, session.sink)
    new_lock = lock.lock_of(checked.plan, checked.jobs, checked.resolved.env, session)
    if frozen:
        lock.compare(new_lock, locked, lock_path, checked.recipe.span, session)
    if session.sink.failed:
        return None
    chosen = _target("" if smoke else target or named(checked.plan), checked.plan, checked.jobs, session)
    if chosen is None:
        return None
    if smoke:
        return _compile_smoke(checked, lock_path, session, chosen)
    files = compile_files(checked.plan, checked.jobs, session, chosen)
    text = lock.text_of(new_lock, locked, checked.recipe.folder, session)
    recipe = checked.recipe
    return Compiled(
        recipe.name, recipe.folder, checked.plan, checked.jobs, files, (lock_path, text), target=chosen.name
    )


def _target(name: str, plan: Plan, jobs: tuple[Job, ...], session: Session) -> Target | None:
    """The target of that name; None and a diagnostic if it is unknown or cannot run the jobs."""
    from ftdsl.targets import registry
    from ftdsl.targets.options import check_named

    target = registry.get(name or registry.DEFAULT)
    if target is None:
        help = f"targets: {', '.join(registry.names())}"
        session.sink.error("FT086", f"unknown target `{name}`", plan.recipe.span, help=help)
        return None
    check_named(plan, session)
    target.check(plan, jobs, session)
    return None if session.sink.failed else target


def _compile_smoke(checked: Checked, lock: Path, session: Session, target: Target) -> Compiled | None:
    """The reduced recipe, planned and lowered like any other."""
    from ftdsl.engines.lower import engine_of, lower
    from ftdsl.plan.choose import plan as choose
    from ftdsl.smoke.recipe import searched, smoke
    from ftdsl.targets.artifacts import compile_files
    from ftdsl.targets.compiled import Compiled

    assert checked.recipe is not None and checked.resolved is not None
    recipe = checked.recipe
    engines = engine_of(recipe, session)
    small = smoke(recipe, session.files, engines)
    spans = {
        stage.key: [(dimension.key, dimension.span) for dimension in stage.dimensions.values()]
        for stage in checked.resolved.stages
    }
    replaced = (*small.replaced, *searched(recipe, spans))
    plan = choose(small.recipe, session, engines)
    jobs = lower(plan, session)
    session.sink.forget_infos()  # the choices for the real recipe, and again for the reduced one
    if session.sink.failed or not jobs:  # stages that run scripts are not tried
        return None
    report = {"replaced": [replacement.as_json() for replacement in replaced]}
    files = compile_files(plan, jobs, session, target) | small.files
    wanted = {job.key: job.packages for job in checked.jobs}
    files["smoke.json"] = (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()
    return Compiled(recipe.name, recipe.folder, plan, jobs, files, (lock, b""), replaced, wanted)


def report_search(resolved: Resolved, session: Session) -> None:
    """Artifacts have one set of values: an error for each key that a search sets."""
    for stage in resolved.stages:
        for dimension in stage.dimensions.values():
            text = f"`{dimension.key}` is searched, and artifacts need one value"
            help = f"type `ftc run`, which runs the search, or set it: --set {stage.name}.{dimension.key}=…"
            session.sink.error("FT084", text, dimension.span, help=help)
