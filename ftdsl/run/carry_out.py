"""Carries out a compiled recipe: the single entry point for the command line, a study, a test or an editor.

Nothing here reads arguments, prints, or handles signals: the wishes, the environments and the view are parameters.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from ftdsl.engines import registry
from ftdsl.engines.jobs import Job
from ftdsl.environments import NAMED, by_engine, named_for
from ftdsl.observe.progress import StageProgress, Status, View
from ftdsl.recipe.build import python_of
from ftdsl.run import measured, out_of_memory, prepare, store
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.environments import Environment, NoEngineError, find, this_python
from ftdsl.run.execute import Executor
from ftdsl.run.faults import warnings_of
from ftdsl.run.fingerprint import kept_digests
from ftdsl.run.launchers.launcher import Launcher, QueueLauncher
from ftdsl.run.launchers.local import LocalLauncher
from ftdsl.run.launchers.registry import launcher_for, names
from ftdsl.run.lengths import cut, read_report
from ftdsl.run.outcome import INTERRUPTED, Outcome
from ftdsl.run.preload import Preload
from ftdsl.run.prepare import Wishes
from ftdsl.run.project import home_of
from ftdsl.run.resources import of_a_cluster, of_this_machine
from ftdsl.run.stop import Stop
from ftdsl.session import Session
from ftdsl.targets.compiled import Compiled


def carry_out(
    compiled: Compiled,
    wishes: Wishes,
    environments: Mapping[str, Environment],
    view: View,
    *,
    session: Session | None = None,
    stop: Stop | None = None,
    launcher: Launcher | None = None,
    home: Path | None = None,
    preload: Preload | None = None,
) -> Outcome:
    """Run every stage that is not done; gives the outcome.

    environments: by name, as `environments_of` finds them; session: through which files are read (a new one); stop: by which
    the host stops it; launcher: what starts stages (that of the target it is compiled for); home: the folder of its
    runs (`project.home_of`); preload: an engine that is imported already, for longer than this run.

    Raises: NoLauncherError for a target, UnknownStageError for a wish, BusyError while another process runs this recipe,
    StillRunningError while a stage lives that another left, OSError when the run folder cannot be written.
    """
    gc.enable()
    session, stop, launcher = session or Session(), stop or Stop(), launcher or _launcher(compiled)
    outcome = Outcome(compiled=compiled)
    smoke = compiled.plan.recipe.smoke
    if smoke:
        wishes = replace(wishes, fresh=True)
    jobs = prepare.selected(compiled.jobs, wishes)
    queued = isinstance(launcher, QueueLauncher)
    resources = of_a_cluster(wishes.side_by_side) if queued else of_this_machine(session.env, wishes.side_by_side)
    for text in compiled.replaced_lines():
        view.note(text)
    home = home or home_of(Path(compiled.plan.recipe.span.source.name), compiled.name, smoke=smoke, claim=True)
    with store.locked(home):
        packages = {name: environment.packages for name, environment in environments.items()}
        keys = CacheKeys(jobs, compiled.folder, packages, kept_digests())
        running = prepare.joinable(jobs, keys, wishes, home, launcher)
        run, outcome.progress = prepare.prepare(compiled, jobs, keys, wishes, home, view.note, joined=running)
        waiting = {stage.key for stage in outcome.progress.having(Status.WAITING)}
        todo = [job for job in jobs if job.key in waiting]
        new = [job for job in todo if job not in running]
        versions = compiled.plan.recipe.versions
        if obstacles := prepare.obstacles(new, environments, resources, versions, session.env):
            outcome.add_faults(obstacles)
            return outcome.ended(1)
        executor = Executor(
            run, jobs, keys, environments, session.env, launcher, resources, view, outcome.progress, stop,
            preload or Preload(run.folder, environments),
        )  # fmt: skip
        executor.when_done = partial(_done, outcome=outcome, view=view, session=session)
        for stage in outcome.progress.having(Status.CACHED):
            report_data(stage, outcome, view)
            outcome.add_warnings((stage.key, fault) for fault in warnings_of(run.folder / stage.folder))
        for job in running:
            view.note(f"{job.folder}: runs already, started by an earlier ftc; joined")
            executor.join(job)
        if todo:
            own = preload is None
            if own and wishes.preload and launcher.name == LocalLauncher.name:
                executor.preload.start(new, session.env, home / "preloaded.log")
            try:
                executor.execute()
            finally:
                if own:
                    executor.preload.close()
    outcome.nothing_to_do = not todo
    outcome.add_faults(out_of_memory.explained(executor.faults.items(), compiled.plan, session))
    outcome.add_warnings([*executor.warnings, *prepare.lacking(compiled, environments)])
    failed, refused, stopped = (
        outcome.progress.having(status) for status in (Status.FAILED, Status.REFUSED, Status.STOPPED)
    )
    return outcome.ended(INTERRUPTED if stop.requests or stopped else 1 if failed else 3 if refused else 0)


class NoLauncherError(Exception):
    """Nothing here starts the jobs of a target; the message is a sentence."""


def _launcher(compiled: Compiled) -> Launcher:
    launcher = launcher_for(compiled.target)
    if launcher is None:
        raise NoLauncherError(
            f"`ftc run` starts no jobs of the target `{compiled.target}`, only of {', '.join(names())}; "
            f"type: ftc compile --target {compiled.target}"
        )
    return launcher


def environments_of(
    jobs: tuple[Job, ...], compiled: Compiled, env: Mapping[str, str], *, python: str = ""
) -> dict[str, Environment]:
    """The environments that jobs run in, by name; `""` is for those that need none: the recipe's engine where it is there,
    since it has the packages that data work needs, else the Python that runs ftc. python: named for the recipe's engine.

    Raises: NoEngineError when one that is needed is not there.
    """
    engine = compiled.plan.recipe.engine
    names = list(dict.fromkeys(job.environment for job in jobs))
    asked = [name for name in names if (known := registry.get(name)) is not None and known.package]
    owner = engine.name if engine.name in asked or len(asked) != 1 else asked[0]  # of a Python named without an engine
    environments: dict[str, Environment] = {}
    for name in names:
        known = registry.get(name)
        if known is not None and not known.package:
            environments[name] = this_python()
        elif name:
            environments[name] = _environment_of(name, compiled, env, python, owner)
    if engine.name in environments:
        return {**environments, "": environments[engine.name]}
    if any(job.packages for job in jobs):
        try:
            return {**environments, "": _environment_of(engine.name, compiled, env, python, engine.name)}
        except NoEngineError:
            return {**environments, "": environments[asked[0]] if asked else this_python()}
    return {**environments, "": this_python()}


def _environment_of(name: str, compiled: Compiled, env: Mapping[str, str], python: str, owner: str) -> Environment:
    """The environment of an engine or tool. A Python that the command line or a variable names without saying for which engine
    is `owner`'s; another engine is run in it where it is there. Raises: NoEngineError.
    """
    choice = compiled.plan.recipe.engines.get(name)
    named = python_of(choice.term, compiled.folder) if choice else ""

    def environment_by(flag: str, env: Mapping[str, str]) -> Environment:
        return find(name, env, flag=flag, recipe=named, folder=compiled.folder)

    if name == owner or registry.get(name) is None:
        return environment_by(python if name == owner or by_engine(python) else "", env)
    try:
        return environment_by(python, env)
    except NoEngineError:
        if named_for(name, python) or named_for(name, env.get(NAMED[1], "")):
            raise
        return environment_by("", {key: value for key, value in env.items() if key != NAMED[1]})


def _done(stage: StageProgress, outcome: Outcome, view: View, session: Session) -> None:
    """After a stage succeeded: keep its measurements for later plans."""
    report_data(stage, outcome, view)
    assert outcome.progress is not None and outcome.compiled is not None
    plan = outcome.compiled.plan
    try:
        kept = measured.keep(stage.key, plan, outcome.progress.folder / stage.folder, session)
    except OSError as error:
        view.note(f"note: what {stage.folder} measured could not be kept ({(error.strerror or str(error)).lower()})")
        return
    if kept:
        view.note(f"{stage.folder}: {kept}")


def report_data(stage: StageProgress, outcome: Outcome, view: View) -> None:
    """Notes of a data stage that is done: the path of its data card, and stages that would cut its rows."""
    if stage.kind != "data" or outcome.progress is None or outcome.compiled is None:
        return
    folder = outcome.progress.folder / stage.folder
    if (folder / "card.html").exists():
        view.note(f"{stage.folder}: data card {(folder / 'card.html').as_posix()}")
    plan = outcome.compiled.plan
    warnings = [] if plan.recipe.smoke else list(cut(plan, stage.key, read_report(folder) or {}))
    for warning in warnings:
        view.note(f"warning: {warning.message} ({warning.span.location if warning.span else ''})")
    outcome.problems += warnings
