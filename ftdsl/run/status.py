"""The status of a recipe's stages, given its runs: done, new, changed and why, interrupted. Starts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ftdsl import catalog
from ftdsl.engines.jobs import Job
from ftdsl.engines.tools.tool import TOOLS
from ftdsl.environments import NAMED, candidates, installed
from ftdsl.observe.progress import Status
from ftdsl.observe.status import BROKEN, CHANGED, DONE, NEW, RUNNING, StageStatus
from ftdsl.plan.plan import Plan
from ftdsl.recipe.build import python_of
from ftdsl.run import by_hand, store
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.fingerprint import kept_digests
from ftdsl.run.launchers.registry import who_runs
from ftdsl.run.prepare import Wishes, done_before
from ftdsl.run.store import JobState, Run
from ftdsl.session import LARGE, Session, read_json
from ftdsl.targets.manifest import NAME, values_of

BRIEF = 40
"""Characters of a value that are shown."""


def stage_statuses(
    plan: Plan, jobs: tuple[Job, ...], home: Path, session: Session, base: Path | None = None
) -> dict[str, StageStatus]:
    """Of every job, by key. home: the folder of this recipe's runs; base: that without its profiles and `--set`,
    with which a variant that has never run is compared.
    """
    runs = [run for run in store.runs_of(home) if not run.smoke]
    if not runs and base is not None:
        runs = [run for run in store.runs_of(base) if not run.smoke]
    if not runs and not by_hand.folders(home):  # nothing to compare with: no data is read to find out
        return {job.key: StageStatus(job.key, NEW) for job in jobs}
    packages = packages_by_environment(plan, jobs, runs, session)
    keys = CacheKeys(jobs, plan.recipe.folder, packages, kept_digests())
    done, damaged = done_before(jobs, keys, Wishes(), runs, home)
    statuses: dict[str, StageStatus] = {}
    for job in jobs:
        if earlier := done.get(job.key):
            statuses[job.key] = StageStatus(job.key, DONE, earlier.run.name, (earlier.run / earlier.folder).as_posix())
        else:
            statuses[job.key] = _undone(job, keys, runs, plan, statuses, damaged)
    return statuses


def packages_by_environment(
    plan: Plan, jobs: tuple[Job, ...], runs: list[Run], session: Session
) -> dict[str, Mapping[str, str]]:
    """Versions that `ftc run` would find, by the name of the environment: of each engine, of the tools that jobs run in, and of
    `""` (run.carry_out.environments_of). Read from folder names.
    """
    names = dict.fromkeys((plan.recipe.engine.name, *(job.environment for job in jobs if job.environment)))
    packages = {name: _engine_packages(name, plan, jobs, runs, session) for name in names if name not in TOOLS}
    first = next((name for name in packages if name != plan.recipe.engine.name), "")
    own = packages[plan.recipe.engine.name]
    packages[""] = own if own or not first else packages[first]
    return packages | {name: _tool_packages(name, session) for name in names.keys() & TOOLS.keys()}


def _engine_packages(
    name: str, plan: Plan, jobs: tuple[Job, ...], runs: list[Run], session: Session
) -> Mapping[str, str]:
    """Versions beside an engine. Where it is not on this machine they count as they were in its newest run."""
    choice = plan.recipe.engines.get(name)
    named = python_of(choice.term, plan.recipe.folder) if choice else ""
    last: dict[str, str] = {}
    named_pythons = candidates(name, session.env, flag=session.engine_python, recipe=named)
    others = candidates(name, {key: value for key, value in session.env.items() if key != NAMED[1]}, recipe=named)
    for python, _ in (*named_pythons, *others):
        last = installed(python, session.files)
        if catalog.serves(name, last):
            return last
    keys = {job.key for job in jobs if job.environment == name}
    if keys:
        states = [state for run in reversed(runs) for key, state in run.jobs.items() if key in keys]
        return {package: version for state in states for package, version in state.facts.get("packages", {}).items()}
    return last if name == plan.recipe.engine.name else {}


def _tool_packages(name: str, session: Session) -> Mapping[str, str]:
    """Versions in a tool's environment; empty where there is none."""
    for python, _ in candidates(name, session.env, variable=TOOLS[name].variable):
        if name in (packages := installed(python, session.files)):
            return packages
    return {}


def _undone(
    job: Job,
    keys: CacheKeys,
    runs: list[Run],
    plan: Plan,
    before: Mapping[str, StageStatus],
    damaged: Mapping[str, str],
) -> StageStatus:
    """Why there is no result that can be used."""
    run = next((run for run in runs if job.key in run.jobs), None)
    if run is None:
        return StageStatus(job.key, NEW)
    state = run.jobs[job.key]
    if state.status == Status.RUNNING and (who := who_runs(run.folder, state.folder)):
        changed = () if state.key == keys[job.key] else ("as it was before the recipe changed",)
        runner = f"process {who}" if isinstance(who, int) else who
        return StageStatus(job.key, RUNNING, run.id, "", (runner, *changed))
    if state.key == keys[job.key]:
        if state.done:
            return StageStatus(job.key, CHANGED, run.id, "", (damaged.get(job.key) or "its result cannot be used",))
        step = _checkpoint(run, state, job) if run is runs[0] and not run.finished else 0
        return StageStatus(job.key, BROKEN, run.id, "", (_ended(state),), step)
    why = tuple(_changes(job, state, keys.facts[job.key], run, plan, before))
    return StageStatus(job.key, CHANGED, run.id, "", why or ("a stage it depends on changed",))


def _checkpoint(run: Run, state: JobState, job: Job) -> int:
    """The step of the newest checkpoint that a stage has left, 0 without one."""
    own = job.result.startswith(f"{job.folder}/")
    output = run.folder / (state.folder + job.result.removeprefix(job.folder) if own else job.result)
    steps = [path.parent.name.removeprefix("checkpoint-") for path in output.glob("checkpoint-*/trainer_state.json")]
    return max((int(step) for step in steps if step.isdecimal()), default=0)


def _ended(state: JobState) -> str:
    known = {"failed": "failed last time", "stopped": "was stopped", "running": "was cut off", "refused": "was refused"}
    reason = known.get(state.status, f"was {state.status} last time")
    return f"{reason}: {state.message}" if state.message and state.status != "stopped" else reason


def _changes(
    job: Job,
    state: JobState,
    facts: Mapping[str, Mapping[str, str]],
    run: Run,
    plan: Plan,
    before: Mapping[str, StageStatus],
) -> Iterator[str]:
    """What differs from the last time, what the author did first."""
    old = state.facts
    if _different(old, facts, "settings"):
        changes = list(_settings(job, run, plan))
        names = ", ".join(_different(old, facts, "settings"))
        yield from changes or [f"what is written for the engine is another: {names}"]
    for name in _different(old, facts, "inputs"):
        word = (
            "is new"
            if name not in old.get("inputs", {})
            else "is not read any more"
            if name not in facts["inputs"]
            else "has changed"
        )
        yield f"{name} {word}"
    for name in _different(old, facts, "packages"):
        was, now = old.get("packages", {}).get(name), facts["packages"].get(name)
        yield f"{name} {was or 'none'} -> {now or 'none'}"
    if code := _different(old, facts, "code"):
        yield f"ftc's own runtime makes something else of it: {', '.join(code)}"
    for name in _different(old, facts, "needs"):
        yield f"{name} runs again" if name in before and before[name].runs else f"{name} is another"


def _different(old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]], kind: str) -> list[str]:
    then, now = old.get(kind, {}), new[kind]
    return [name for name in dict.fromkeys((*now, *then)) if then.get(name) != now.get(name)] if old else []


def _settings(job: Job, run: Run, plan: Plan) -> Iterator[str]:
    """`optim.lr 1e-4 -> 5e-5 (recipe.ft:12)`, by the manifests of then and now."""
    planned = next((planned for planned in plan.stages if planned.key == job.key), None)
    try:
        stages = read_json(run.folder / NAME, LARGE)["stages"]
        then = next(stage["values"] for stage in stages if stage["key"] == job.key)
        was = {key: str(value["value"]) for key, value in then.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return
    if planned is None:
        return
    now = values_of(planned, plan)
    # what the author wrote first, then what followed from it
    for key in sorted(
        dict.fromkeys((*now, *was)), key=lambda key: str(now.get(key, {}).get("origin")).startswith("auto")
    ):
        new = str(now[key]["value"]) if key in now else None
        if was.get(key) != new:
            origin = f" ({now[key]['origin']})" if key in now else ""
            then, here = _apart(was.get(key), new)
            yield f"{key} {then} -> {here}{origin}"


def _apart(then: str | None, now: str | None) -> tuple[str, str]:
    """Two values cut to a readable length: around the first difference where their beginnings are the same."""
    if then is None or now is None:
        return _brief(then), _brief(now)
    same = next((at for at, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), min(len(then), len(now)))
    start = max(0, same - 8) if same > BRIEF - 10 and max(len(then), len(now)) > BRIEF else 0
    return _brief(then, start), _brief(now, start)


def _brief(text: str | None, start: int = 0) -> str:
    if text is None:
        return "unset"
    text = f"…{text[start:]}" if start else text
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"
