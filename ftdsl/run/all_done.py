"""The short way of `ftc run` where all is done: nothing is rendered or written, no environment is asked, no process started."""

from __future__ import annotations

from pathlib import Path

from ftdsl.engines.jobs import Job
from ftdsl.observe.progress import View
from ftdsl.plan.plan import Plan
from ftdsl.run import carry_out, prepare, store
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.faults import warnings_of
from ftdsl.run.fingerprint import kept_digests
from ftdsl.run.outcome import Outcome
from ftdsl.run.prepare import Earlier, Wishes
from ftdsl.run.status import packages_by_environment
from ftdsl.session import Session
from ftdsl.targets.compiled import Compiled


def outcome_of(
    plan: Plan, jobs: tuple[Job, ...], lock: Path, home: Path, view: View, session: Session
) -> Outcome | None:
    """The outcome, as `carry_out` would give it, when every job was done by the newest run; None where anything is to be done.

    Versions of packages are read from folder names, as for `ftc plan`.
    """
    runs = [run for run in store.runs_of(home) if not run.smoke]
    if not runs or not runs[0].finished or set(runs[0].current) != {job.key for job in jobs}:
        return None
    run = runs[0]
    keys = CacheKeys(jobs, plan.recipe.folder, packages_by_environment(plan, jobs, runs, session), kept_digests())
    done, _ = prepare.done_before(jobs, keys, Wishes(), runs, home)
    if any(done.get(job.key) != Earlier(run.folder, job.folder) for job in jobs):
        return None
    events = prepare.cached_events(plan.recipe.name, jobs, keys, done, run)
    compiled = Compiled(plan.recipe.name, plan.recipe.folder, plan, jobs, {}, (lock, b""))
    outcome = Outcome(compiled=compiled, nothing_to_do=True, progress=prepare.progress_of(run, jobs, done, events))
    for stage in outcome.progress.stages if outcome.progress else ():
        carry_out.report_data(stage, outcome, view)
        outcome.add_warnings((stage.key, fault) for fault in warnings_of(run.folder / stage.folder))
    return outcome.ended(0)
