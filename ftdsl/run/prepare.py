"""Before anything starts: which run folder, what is done already, and whether this machine can do the rest."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ftdsl.engines.jobs import Job
from ftdsl.environments import Versions
from ftdsl.observe.metrics import Result, read_result
from ftdsl.observe.progress import RunProgress, Status, fold
from ftdsl.plan.forecast import price_of
from ftdsl.plan.plan import Plan
from ftdsl.run import by_hand, store
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.environments import Environment
from ftdsl.run.faults import Fault
from ftdsl.run.fingerprint import damage
from ftdsl.run.launchers.launcher import Launcher, Task
from ftdsl.run.launchers.registry import living_start
from ftdsl.run.project import is_trial, siblings
from ftdsl.run.resources import Resources
from ftdsl.run.store import JobState, Run
from ftdsl.run.unsupervised import GATE_REFUSED, refusals_in
from ftdsl.run.uploads import lacks_token
from ftdsl.runtime.events import Event, made
from ftdsl.targets.compiled import Compiled


@dataclass(frozen=True)
class Wishes:
    """What is asked for: `only` these stages and what they need; `force` these again; a `fresh` folder; `side_by_side` at most
    (None: as many as the machine takes); `verify`: read all results instead of looking at their sizes and times; `preload`:
    import the engine once for short stages.
    """

    only: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    fresh: bool = False
    side_by_side: int | None = None
    verify: bool = False
    preload: bool = True


class StillRunningError(Exception):
    """A stage of an earlier start lives, and what is asked for is something else: nothing may be started beside it."""


class UnknownStageError(Exception):
    """A stage was named that the recipe lacks."""


def selected(jobs: tuple[Job, ...], wishes: Wishes) -> tuple[Job, ...]:
    """The jobs to carry out, with all they need. Raises: UnknownStageError."""
    by_key = {job.key: job for job in jobs}
    named = {
        name: [k for k in by_key if k == name or k.partition("@")[0] == name] for name in (*wishes.only, *wishes.force)
    }
    for name, keys in named.items():
        if not keys:
            raise UnknownStageError(f"the recipe has no stage `{name}`; stages: {', '.join(by_key)}")
    if not wishes.only:
        return jobs
    kept: set[str] = set()
    todo = [key for name in wishes.only for key in named[name]]
    while todo:
        key = todo.pop()
        if key not in kept:
            kept.add(key)
            todo += by_key[key].needs
    return tuple(job for job in jobs if job.key in kept)


def prepare(
    compiled: Compiled,
    jobs: tuple[Job, ...],
    keys: CacheKeys,
    wishes: Wishes,
    home: Path,
    note: Callable[[str], None] = lambda text: None,
    *,
    joined: Sequence[Job] = (),
) -> tuple[Run, RunProgress]:
    """The run to resume, or a new one, laid out on disk; stages that are done are marked so. note: is given what a person
    should know of it.

    A run that was left unfinished is resumed: its stages keep their checkpoints as long as nothing that reaches
    them has changed. joined: jobs of the newest run that live: that run is resumed even if it was finished for fewer stages, and
    their folders are left to them, whatever another run has done.
    """
    smoke = compiled.plan.recipe.smoke
    earlier = [run for run in store.runs_of(home) if run.smoke == smoke]
    newest = earlier[0] if earlier and not wishes.fresh else None
    done, damaged = ({}, {}) if wishes.fresh else done_before(jobs, keys, wishes, earlier, home)
    done = {key: result for key, result in done.items() if key not in {job.key for job in joined}}
    for key, text in damaged.items():
        note(f"{key} runs again: {text}")
    complete = newest is not None and all(done.get(job.key) == Earlier(newest.folder, job.folder) for job in jobs)
    run = (
        newest
        if newest is not None and (complete or joined or not newest.finished)
        else Run(store.new_folder(home, datetime.now()), smoke=smoke)
    )
    store.point_last(home, run.folder)
    first, *cached = cached_events(compiled.name, jobs, keys, done, run, note, hourly_prices(compiled.plan))
    waiting = {job.key for job in jobs} - {event["stage"] for event in cached}
    store.write_build(run.folder, compiled.files, compiled.folder, {job.folder for job in jobs if job.key in waiting})
    if waiting or not run.finished:
        run.write(first, *cached)
    return run, progress_of(run, jobs, done, [first, *cached])


def cached_events(
    name: str,
    jobs: tuple[Job, ...],
    keys: CacheKeys,
    done: Mapping[str, Earlier],
    run: Run,
    note: Callable[[str], None] = lambda text: None,
    prices: Mapping[str, float] | None = None,
) -> list[Event]:
    """The event that begins a run, and one for each stage that is done; the folders of stages are made ready.

    prices: USD an hour of the stages whose price is known.
    """
    described = [
        {"key": job.key, "folder": job.folder, "kind": job.kind, "title": job.title, "where": job.location,
         **({"hourly": prices[job.key]} if prices and job.key in prices else {})}
        for job in jobs
    ]  # fmt: skip
    first = made("run", id=run.id, name=name, smoke=run.smoke, stages=described, pid=os.getpid())
    return [first, *(event for job in jobs if (event := _settle(job, keys, done, run, note)) is not None)]


def progress_of(run: Run, jobs: tuple[Job, ...], done: Mapping[str, Earlier], events: list[Event]) -> RunProgress:
    """A run as it begins, with the results of stages that are done."""
    progress = fold(events, run.folder)
    for job in jobs:
        if job.key in done:
            progress.stage(job.key).result = _result(run.folder / job.folder, done[job.key], job)
    return progress


def hourly_prices(plan: Plan) -> dict[str, float]:
    """USD an hour of each stage that runs on GPUs, by key; those whose price is not known are left out."""
    prices = {}
    for planned in plan.stages:
        price, _ = price_of(planned.stage)
        if price and planned.world.gpu:
            prices[planned.stage.key] = round(price * planned.world.size, 4)
    return prices


def joinable(jobs: tuple[Job, ...], keys: CacheKeys, wishes: Wishes, home: Path, launcher: Launcher) -> list[Job]:
    """Jobs of the newest run that an earlier `ftc` has started and left: those that still run, and those that ended well
    or were refused by their gate meanwhile. Raises: StillRunningError when one runs that is not what would be started now.
    """
    joined = []
    for at, run in enumerate(store.runs_of(home)):
        for key, state in run.jobs.items():
            if state.status != Status.RUNNING:
                continue
            handle = launcher.find(Task(run.folder, state.folder, {}))
            status = launcher.poll(handle) if handle else 1
            refused = status == GATE_REFUSED and bool(refusals_in(run.folder / state.folder))
            if handle is None or (status and not refused):
                _check_elsewhere(key, state, run, launcher)
                continue
            job = next((job for job in jobs if job.key == key), None)
            same = at == 0 and not wishes.fresh and job is not None and keys[key] == state.key
            if (
                same
                and job is not None
                and job.folder == state.folder
                and (status is None or state.handle == handle.id)
            ):
                joined.append(job)
            elif status is None:
                raise StillRunningError(_still_runs(key, state, run, (handle.facts or {}).get("pid", handle.id)))
    return joined


def _check_elsewhere(key: str, state: JobState, run: Run, launcher: Launcher) -> None:
    """A stage that another launcher has started is not started beside it. Raises: StillRunningError."""
    start = living_start(run.folder, state.folder)
    if start is not None and start[0].name != launcher.name:
        raise StillRunningError(_still_runs(key, state, run, (start[1].facts or {}).get("pid", start[1].id)))


def _still_runs(key: str, state: JobState, run: Run, who: int | str) -> str:
    where = f"{f'process {who}' if isinstance(who, int) else who}, in {(run.folder / state.folder).as_posix()}"
    stop = f"kill {who}" if isinstance(who, int) else "ftc cancel"
    return f"`{key}` still runs ({where}), and is not what would run now; wait for it, or type: {stop}"


@dataclass(frozen=True)
class Earlier:
    """Where a job was done: the run, and what its stage folder is called there (stages put in since move numbers)."""

    run: Path
    folder: str
    state: JobState = field(default_factory=JobState, compare=False)

    def path_of(self, path: str, job: Job) -> str:
        """A path of this run's, as it is called there."""
        return _renamed(path, job.folder, self.folder)


def _renamed(path: str, folder: str, other: str) -> str:
    inside = path == folder or path.startswith(f"{folder}/")
    return other + path.removeprefix(folder) if inside else path


def done_before(
    jobs: tuple[Job, ...], keys: CacheKeys, wishes: Wishes, earlier: list[Run], home: Path
) -> tuple[dict[str, Earlier], dict[str, str]]:
    """Jobs that a run has done with the same key, and whose result is still there and what they made: the newest such run, of
    this recipe or of another of the project. And why results that were made with the same key cannot be used, by job key.

    A stage may have had another name: what it made does not depend on it.
    """
    reusable: dict[str, Earlier] = {}
    damaged: dict[str, str] = {}
    again = {job.key for job in jobs if job.key in wishes.force or job.key.partition("@")[0] in wishes.force}
    beside: list[Run] | None = None
    variants = [run for other in siblings(home) for run in store.runs_of(other) if not run.smoke]
    earlier = [*earlier, *by_hand.runs(home, jobs, keys)]
    for job in jobs:
        if job.key in again or any(need in again for need in job.needs):
            again.add(job.key)
            continue
        candidates = _candidates(job, keys[job.key], earlier) or _candidates(job, keys[job.key], variants)
        if not candidates and _shareable(job):
            beside = ([] if is_trial(home) else store.runs_beside(home)) if beside is None else beside
            candidates = _candidates(job, keys[job.key], beside)
        for candidate in candidates:
            text = damage(candidate.run, candidate.state.made, keys.digests, thorough=wishes.verify)
            if not (candidate.run / candidate.folder).is_dir():
                text = f"{candidate.folder} is not there any more"
            if not text:
                reusable[job.key] = candidate
                break
            damaged.setdefault(job.key, text)
    keys.digests.save()
    return reusable, {key: text for key, text in damaged.items() if key not in reusable}


def _candidates(job: Job, key: str, runs: list[Run]) -> list[Earlier]:
    """Stages that were done with this key, those of the same name first."""
    states = [(run, name, state) for run in runs for name, state in run.jobs.items() if state.done and state.key == key]
    states.sort(key=lambda state: state[1] != job.key)
    return [Earlier(run.folder, state.folder or job.folder, state) for run, _, state in states]


def _shareable(job: Job) -> bool:
    """Whether another recipe's result may be used: it is in the run folder, and the stage has no other effect."""
    return job.kind != "shell" and job.result.startswith(job.folder) and not job.gates


def _settle(
    job: Job, keys: CacheKeys, done: Mapping[str, Earlier], run: Run, note: Callable[[str], None]
) -> Event | None:
    """Make a stage's folder ready: linked to the run that did it, or as far as it can be resumed, or empty. The event of a
    stage that is done, else None.
    """
    stage_folder = run.folder / job.folder
    known = run.jobs.get(job.key)
    source = done.get(job.key)
    if source is None:
        if stage_folder.is_symlink() or (known is None and stage_folder.exists()):
            store.clear_stage(stage_folder)
        elif known and known.key != keys[job.key]:
            if any(stage_folder.glob("*/checkpoint-*")):
                aside = store.set_aside(stage_folder).as_posix()
                note(f"{job.folder}: its settings have changed; the checkpoints of before are in {aside}")
            store.clear_stage(stage_folder)
        elif known and known.done:
            store.clear_stage(
                stage_folder
            )  # forced, or damaged: a checkpoint would make it resume instead of starting anew
        return None
    if source != Earlier(run.folder, job.folder):
        for path in (job.folder, *(path for path in job.outputs if not Path(path).is_absolute())):
            store.link(run.folder, path, source.run / source.path_of(path, job))
    real = stage_folder.resolve().parent.name
    times = {"started": known.started, "ended": known.ended} if known and source.run == run.folder else {}
    files = {_renamed(name, source.folder, job.folder): facts for name, facts in source.state.made.items()}
    return made(
        "stage", stage=job.key, status=Status.CACHED.value, folder=job.folder, key=keys[job.key], made=files,
        facts=keys.facts[job.key], cached_from=real if real != run.id else "", message="", **times,
    )  # fmt: skip


def _result(folder: Path, source: Earlier, job: Job) -> Result | None:
    """What a stage made, with its path as it is called in this run."""
    result = read_result(folder)
    if result and f"{result.path}/".startswith(f"{source.folder}/"):
        return replace(result, path=job.folder + result.path.removeprefix(source.folder))
    return result


def obstacles(
    jobs: list[Job],
    environments: Mapping[str, Environment],
    resources: Resources,
    versions: Versions,
    env: Mapping[str, str],
) -> list[tuple[str, Fault]]:
    """Why jobs cannot run here, by job key, each with what can be done about it."""
    faults = []
    for job in jobs:
        if fault := lacks_token(job, env):
            faults.append((job.key, fault))
        environment = environments[job.environment]
        if job.environment == versions.engine and (wrong := _other_version(environment, versions)):
            faults.append((job.key, wrong))
            continue
        missing = [name for name in job.packages if environment.lacks(name)]
        if missing:
            text = f"needs {', '.join(missing)}, which {environment.python} lacks"
            keys = tuple(key for name in missing for key in _ASKED_BY.get(name, ()))
            faults.append((job.key, Fault(text, keys, _way(missing, environment), "FT955")))
        if resources.elsewhere:
            continue
        if job.nodes > 1:
            text = f"runs on {job.nodes} nodes, and this is one"
            help = f"ftc compile, and then on each of them: {job.by_hand[0]}"
            faults.append((job.key, Fault(text, ("hardware.nodes", "hardware"), help)))
        elif job.accelerators > len(resources.gpus):
            here = f"{len(resources.gpus)} here" if resources.gpus else "there are none here"
            text = f"needs {job.accelerators} GPU{'s' * (job.accelerators > 1)} and {here}"
            help = "run it where they are (ftc compile, then run.sh), or use a profile with `hardware { gpu = none }`"
            faults.append((job.key, Fault(text, ("hardware.gpu", "hardware"), help)))
    return faults


def lacking(compiled: Compiled, environments: Mapping[str, Environment]) -> list[tuple[str, Fault]]:
    """What the real run of a recipe needs and its environments lack, where a smoke run does without."""
    small = {job.key: set(job.packages) for job in compiled.jobs}
    where = {job.key: job.environment for job in compiled.jobs}
    faults = []
    for key, packages in compiled.wanted.items():
        environment = environments.get(where.get(key, ""))
        if environment is None:
            continue
        missing = [name for name in packages if name not in environment.packages and name not in small.get(key, ())]
        if missing:
            text = f"where it will train it needs {', '.join(missing)}, and {environment.python} has none"
            keys = tuple(key for name in missing for key in _ASKED_BY.get(name, ()))
            faults.append((key, Fault(text, keys, f"there: pip install {' '.join(missing)}", "FT955")))
    return faults


def _other_version(environment: Environment, versions: Versions) -> Fault | None:
    """What was compiled for one version is not run by another."""
    for package, held in versions.packages.items():
        here = environment.packages.get(package)
        if here not in (None, held.version) and (package == versions.engine or held.source == "the lock"):
            text = f"is compiled for {package} {held.version} ({held.source}), and {environment.python} has {here}"
            help = f"name another environment, or type: {environment.python} -m pip install {package}=={held.version}"
            return Fault(text, ("engine",), help, "FT901")
    return None


_ASKED_BY = {
    "deepspeed": ("parallel.strategy",), "bitsandbytes": ("quantize", "optim.name"), "liger-kernel": ("kernels",),
    "unsloth": ("kernels",), "galore-torch": ("optim.name",), "apollo-torch": ("optim.name",), "badam": ("optim.name",),
    "adam-mini": ("optim.name",), "mixture-of-depth": ("llamafactory.mixture_of_depths",), "matplotlib": ("track.plot",),
    "jieba": ("metrics", "evaluate.metrics"), "nltk": ("metrics", "evaluate.metrics"), "pyarrow": ("source",),
    "eetq": ("quantize.scheme",), "optimum": ("scheme",), "gptqmodel": ("scheme",), "trl<=0.9.6": ("reward",),
    "wandb": ("track.to",), "tensorboard": ("track.to",), "mlflow": ("track.to",), "swanlab": ("track.to",),
}  # fmt: skip
"""The words of a recipe that ask for a package."""


def _way(missing: list[str], environment: Environment) -> str:
    flag = " --deepspeed" if "deepspeed" in missing else ""
    if flag or {"jieba", "nltk", "rouge-chinese"} & set(missing):
        return f"type: ftc engine install llamafactory --python {environment.python}{flag}"
    return f"type: {environment.python} -m pip install {' '.join(map(shlex.quote, missing))}"
