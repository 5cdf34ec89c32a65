"""Before anything starts: which run folder, what is done already, and whether this machine can do the rest."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ftdsl.engines.jobs import Job
from ftdsl.environments import Versions
from ftdsl.observe.metrics import read_result
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.run import store
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.environments import Environment
from ftdsl.run.faults import Fault
from ftdsl.run.resources import Resources
from ftdsl.run.store import JobState, Run
from ftdsl.targets.compiled import Compiled


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for: `only` these stages and what they need; `force` these again; a `fresh` folder."""

    only: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    fresh: bool = False


class UnknownStageError(Exception):
    """A stage named on the command line that the recipe has not."""


def selected(jobs: tuple[Job, ...], wanted: Wanted) -> tuple[Job, ...]:
    """The jobs to carry out, with all they need. Raises: UnknownStageError."""
    by_key = {job.key: job for job in jobs}
    named = {
        name: [k for k in by_key if k == name or k.partition("@")[0] == name] for name in (*wanted.only, *wanted.force)
    }
    for name, keys in named.items():
        if not keys:
            raise UnknownStageError(f"the recipe has no stage `{name}`; stages: {', '.join(by_key)}")
    if not wanted.only:
        return jobs
    kept: set[str] = set()
    todo = [key for name in wanted.only for key in named[name]]
    while todo:
        key = todo.pop()
        if key not in kept:
            kept.add(key)
            todo += by_key[key].needs
    return tuple(job for job in jobs if job.key in kept)


def prepare(
    compiled: Compiled, jobs: tuple[Job, ...], keys: CacheKeys, wanted: Wanted, home: Path
) -> tuple[Run, RunProgress]:
    """The run to go on with, or a new one, laid out on disk; stages that are done are marked so.

    A run that was left unfinished is gone on with: its stages keep their checkpoints as long as nothing that reaches
    them has changed.
    """
    smoke = compiled.plan.recipe.smoke
    earlier = [run for run in store.runs_of(home) if run.smoke == smoke]
    newest = earlier[0] if earlier and not wanted.fresh else None
    done = {} if wanted.fresh else done_before(jobs, keys, wanted, earlier)
    complete = newest is not None and all(done.get(job.key) == Earlier(newest.folder, job.folder) for job in jobs)
    run = (
        newest
        if newest is not None and (complete or not newest.finished)
        else Run(store.new_folder(home, datetime.now()), smoke=smoke)
    )
    store.point_last(home, run.folder)
    stages = [_stage(job, keys, done, run) for job in jobs]
    fresh = {stage.folder for stage in stages if stage.status is Status.WAITING}
    store.lay_out(run.folder, compiled.files, compiled.folder, fresh)
    run.finished = all(stage.status.ok for stage in stages)
    for stage in stages:
        if stage.status is not Status.WAITING:
            state = run.jobs.get(stage.key)
            times = (state.started, state.ended) if state else (stage.started, stage.ended)
            facts = keys.facts[stage.key]
            known = JobState("done", keys[stage.key], *times, "", stage.cached_from, stage.folder, facts)
            run.jobs[stage.key] = known
    run.save()
    return run, RunProgress(compiled.name, run.id, run.folder, tuple(stages), time.time())


def done_before(
    jobs: tuple[Job, ...], keys: Mapping[str, str], wanted: Wanted, earlier: list[Run]
) -> dict[str, Earlier]:
    """Jobs that a run has done with the same key, and whose result is still there: the newest such run."""
    found: dict[str, Earlier] = {}
    again = {job.key for job in jobs if job.key in wanted.force or job.key.partition("@")[0] in wanted.force}
    for job in jobs:
        if job.key in again or any(need in again for need in job.needs):
            again.add(job.key)
            continue
        for run in earlier:
            state = run.jobs.get(job.key)
            if state and state.status == "done" and state.key == keys[job.key]:
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


def _stage(job: Job, keys: dict[str, str], done: dict[str, Earlier], run: Run) -> StageProgress:
    stage = StageProgress(job)
    place = run.folder / job.folder
    known = run.jobs.get(job.key)
    source = done.get(job.key)
    if source is None:
        if place.is_symlink() or (known is None and place.exists()) or (known and known.key != keys[job.key]):
            store.clear_stage(place)
        elif known and known.status == "done":
            store.clear_stage(place)  # forced: a checkpoint would make it go on instead of starting anew
        return stage
    if source != Earlier(run.folder, job.folder):
        for path in (job.folder, *(path for path in job.outputs if not Path(path).is_absolute())):
            store.link(run.folder, path, source.run / source.place(path, job))
    stage.status = Status.CACHED
    stage.result = read_result(place)
    if stage.result and f"{stage.result.path}/".startswith(f"{source.folder}/"):
        stage.result = replace(stage.result, path=job.folder + stage.result.path.removeprefix(source.folder))
    real = place.resolve().parent.name
    stage.cached_from = real if real != run.id else ""
    if known and source.run == run.folder:
        stage.started, stage.ended = known.started, known.ended
    return stage


def obstacles(
    jobs: list[Job], environment: Environment, resources: Resources, versions: Versions
) -> list[tuple[str, Fault]]:
    """Why jobs cannot run here, by job key, each with what can be done about it."""
    found = []
    for job in jobs:
        if job.environment and (wrong := _other_version(environment, versions)):
            found.append((job.key, wrong))
            continue
        missing = [name for name in job.packages if environment.lacks(name)]
        if missing:
            text = f"needs {', '.join(missing)}, which {environment.python} has not"
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


def lacking(compiled: Compiled, environment: Environment) -> list[tuple[str, Fault]]:
    """What the real run of a recipe needs and this environment has not, where a smoke run does without."""
    small = {job.key: set(job.packages) for job in compiled.jobs}
    found = []
    for key, packages in compiled.wanted.items():
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
