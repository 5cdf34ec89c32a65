"""Before anything starts: which run folder, what is done already, and whether this machine can do the rest."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ftdsl.engines.jobs import Job
from ftdsl.environments import Versions
from ftdsl.observe.metrics import Result, read_result
from ftdsl.observe.progress import RunProgress, Status, fold
from ftdsl.run import store
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.environments import Environment
from ftdsl.run.faults import Fault
from ftdsl.run.resources import Resources
from ftdsl.run.store import Run
from ftdsl.runtime.events import Event, made
from ftdsl.targets.compiled import Compiled


@dataclass(frozen=True)
class Wishes:
    """What is asked for: `only` these stages and what they need; `force` these again; a `fresh` folder; `side_by_side` at most
    (None: as many as the machine takes).
    """

    only: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    fresh: bool = False
    side_by_side: int | None = None


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
    compiled: Compiled, jobs: tuple[Job, ...], keys: CacheKeys, wishes: Wishes, home: Path
) -> tuple[Run, RunProgress]:
    """The run to go on with, or a new one, laid out on disk; stages that are done are marked so.

    A run that was left unfinished is gone on with: its stages keep their checkpoints as long as nothing that reaches
    them has changed.
    """
    smoke = compiled.plan.recipe.smoke
    earlier = [run for run in store.runs_of(home) if run.smoke == smoke]
    newest = earlier[0] if earlier and not wishes.fresh else None
    done = {} if wishes.fresh else done_before(jobs, keys, wishes, earlier)
    complete = newest is not None and all(done.get(job.key) == Earlier(newest.folder, job.folder) for job in jobs)
    run = (
        newest
        if newest is not None and (complete or not newest.finished)
        else Run(store.new_folder(home, datetime.now()), smoke=smoke)
    )
    store.point_last(home, run.folder)
    cached = [event for job in jobs if (event := _settle(job, keys, done, run)) is not None]
    waiting = {job.key for job in jobs} - {event["stage"] for event in cached}
    store.lay_out(run.folder, compiled.files, compiled.folder, {job.folder for job in jobs if job.key in waiting})
    described = [
        {"key": job.key, "folder": job.folder, "kind": job.kind, "title": job.title, "where": job.location}
        for job in jobs
    ]
    first = made("run", id=run.id, name=compiled.name, smoke=smoke, stages=described, pid=os.getpid())
    if waiting or not run.finished:
        run.write(first, *cached)
    progress = fold([first, *cached], run.folder)
    for event in cached:
        job = next(job for job in jobs if job.key == event["stage"])
        progress.stage(job.key).result = _result(run.folder / job.folder, done[job.key], job)
    return run, progress


def done_before(
    jobs: tuple[Job, ...], keys: Mapping[str, str], wishes: Wishes, earlier: list[Run]
) -> dict[str, Earlier]:
    """Jobs that a run has done with the same key, and whose result is still there: the newest such run."""
    found: dict[str, Earlier] = {}
    again = {job.key for job in jobs if job.key in wishes.force or job.key.partition("@")[0] in wishes.force}
    for job in jobs:
        if job.key in again or any(need in again for need in job.needs):
            again.add(job.key)
            continue
        for run in earlier:
            state = run.jobs.get(job.key)
            if state and state.done and state.key == keys[job.key]:
                one = Earlier(run.folder, state.folder or job.folder)
                if _there(one, job):
                    found[job.key] = one
                    break
    return found


@dataclass(frozen=True)
class Earlier:
    """Where a job was done: the run, and what its stage folder is called there (stages put in since move numbers)."""

    run: Path
    folder: str

    def place(self, path: str, job: Job) -> str:
        """A path of this run's, as it is called there."""
        inside = path == job.folder or path.startswith(f"{job.folder}/")
        return self.folder + path.removeprefix(job.folder) if inside else path


def _there(one: Earlier, job: Job) -> bool:
    if job.kind == "shell":
        return (one.run / one.folder).exists() and all((one.run / one.place(p, job)).exists() for p in job.outputs)
    result = job.result if job.result_kind != "metrics" else job.folder
    return store.result_there(one.run, one.place(result, job), one.folder)


def _settle(job: Job, keys: CacheKeys, done: dict[str, Earlier], run: Run) -> Event | None:
    """Make a stage's folder ready: linked to the run that did it, or as far as it can be resumed, or empty. The event of a
    stage that is done, else None.
    """
    place = run.folder / job.folder
    known = run.jobs.get(job.key)
    source = done.get(job.key)
    if source is None:
        if place.is_symlink() or (known is None and place.exists()) or (known and known.key != keys[job.key]):
            store.clear_stage(place)
        elif known and known.done:
            store.clear_stage(place)  # forced: a checkpoint would make it resume instead of starting anew
        return None
    if source != Earlier(run.folder, job.folder):
        for path in (job.folder, *(path for path in job.outputs if not Path(path).is_absolute())):
            store.link(run.folder, path, source.run / source.place(path, job))
    real = place.resolve().parent.name
    times = {"started": known.started, "ended": known.ended} if known and source.run == run.folder else {}
    return made(
        "stage", stage=job.key, status=Status.CACHED.value, folder=job.folder, key=keys[job.key],
        facts=keys.facts[job.key], cached_from=real if real != run.id else "", message="", **times,
    )  # fmt: skip


def _result(place: Path, source: Earlier, job: Job) -> Result | None:
    """What a stage made, with its path as it is called in this run."""
    result = read_result(place)
    if result and f"{result.path}/".startswith(f"{source.folder}/"):
        return replace(result, path=job.folder + result.path.removeprefix(source.folder))
    return result


def obstacles(
    jobs: list[Job], environments: Mapping[str, Environment], resources: Resources, versions: Versions
) -> list[tuple[str, Fault]]:
    """Why jobs cannot run here, by job key, each with what can be done about it."""
    found = []
    for job in jobs:
        environment = environments[job.environment]
        if job.environment and (wrong := _other_version(environment, versions)):
            found.append((job.key, wrong))
            continue
        missing = [name for name in job.packages if environment.lacks(name)]
        if missing:
            text = f"needs {', '.join(missing)}, which {environment.python} lacks"
            keys = tuple(key for name in missing for key in _ASKED_BY.get(name, ()))
            found.append((job.key, Fault(text, keys, _way(missing, environment), "FT955")))
        if job.nodes > 1:
            text = f"runs on {job.nodes} nodes, and this is one"
            help = f"ftc compile, and then on each of them: {job.by_hand[0]}"
            found.append((job.key, Fault(text, ("hardware.nodes", "hardware"), help)))
        elif job.accelerators > len(resources.cards):
            here = f"{len(resources.cards)} here" if resources.cards else "there are none here"
            text = f"needs {job.accelerators} GPU{'s' * (job.accelerators > 1)} and {here}"
            help = "run it where they are (ftc compile, then run.sh), or use a profile with `hardware { gpu = none }`"
            found.append((job.key, Fault(text, ("hardware.gpu", "hardware"), help)))
    return found


def lacking(compiled: Compiled, environments: Mapping[str, Environment]) -> list[tuple[str, Fault]]:
    """What the real run of a recipe needs and its environments lack, where a smoke run does without."""
    small = {job.key: set(job.packages) for job in compiled.jobs}
    where = {job.key: job.environment for job in compiled.jobs}
    found = []
    for key, packages in compiled.wanted.items():
        environment = environments.get(where.get(key, ""))
        if environment is None:
            continue
        missing = [name for name in packages if name not in environment.packages and name not in small.get(key, ())]
        if missing:
            text = f"where it will train it needs {', '.join(missing)}, and {environment.python} has none"
            keys = tuple(key for name in missing for key in _ASKED_BY.get(name, ()))
            found.append((key, Fault(text, keys, f"there: pip install {' '.join(missing)}", "FT955")))
    return found


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
