"""A finished stage accepted although its key changed: the reason is an event of the run that made it."""

from __future__ import annotations

from pathlib import Path

from ftdsl.run import store
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.carry_out import environments_of
from ftdsl.run.fingerprint import damage, kept_digests
from ftdsl.run.prepare import Wishes, selected
from ftdsl.run.project import siblings
from ftdsl.session import Session
from ftdsl.targets.compiled import Compiled


class NotDoneError(Exception):
    """There is no result that could be accepted."""


def accept(compiled: Compiled, stages: tuple[str, ...], reason: str, home: Path, session: Session) -> dict[str, str]:
    """The run of each stage that is accepted, by key: the stages named and finished stages that depend on them.

    Raises: UnknownStageError, BusyError; NotDoneError when a stage that is named was never done, or is damaged; NoEngineError.
    """
    named = {job.key for job in selected(compiled.jobs, Wishes(force=stages)) if _is_named(job.key, stages)}
    environments = environments_of(compiled.jobs, compiled, session.env, python=session.engine_python)
    packages = {name: environment.packages for name, environment in environments.items()}
    keys = CacheKeys(compiled.jobs, compiled.folder, packages, kept_digests())
    wanted = set(named)
    accepted: dict[str, str] = {}
    with store.locked(home):
        runs = [run for folder in (home, *siblings(home)) for run in store.runs_of(folder) if not run.smoke]
        for job in compiled.jobs:
            if job.key not in wanted and not any(need in wanted for need in job.needs):
                continue
            run = next((run for run in runs if job.key in run.jobs and run.jobs[job.key].done), None)
            why = damage(run.folder, run.jobs[job.key].made, keys.digests) if run else "it was never done"
            if run is None or why:
                if job.key in named:
                    raise NotDoneError(f"`{job.key}` cannot be accepted: {why}")
                continue
            wanted.add(job.key)
            facts, message = keys.facts[job.key], f"accepted: {reason}"
            run.record("stage", stage=job.key, key=keys[job.key], facts=facts, message=message)
            accepted[job.key] = run.id
    return accepted


def _is_named(key: str, names: tuple[str, ...]) -> bool:
    return key in names or key.partition("@")[0] in names
