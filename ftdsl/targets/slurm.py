"""The target `slurm`: one job per stage, one array per axis, chained by `afterok`; `submit.sh` submits all of them.

What the jobs share is `slurm/job.sh`; a stage's own script only says what it asks of Slurm.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.targets.options import (
    check_devices,
    check_launchers,
    check_texts,
    hardware_of,
    limit_of,
    options_of,
    refuse,
    request_text,
    stage_of,
)
from ftdsl.targets.pythons import for_template, variable_of
from ftdsl.targets.render import render

NAME = "slurm"
JOBS = "slurm/jobs.json"
"""Which script submits which folders: what `ftc run` reads."""

SAVE_BEFORE = 300
"""Seconds before the time limit at which a training is asked to save."""
REQUEUE = 5
"""Times that a job goes on after its time limit."""

OPTION = r"--[a-z][a-z-]*(=[\w.,:@/+=\[\]&|*()%~-]+)?"
OURS = ("--array", "--dependency", "--kill-on-invalid-dep", "--output", "--error", "--open-mode", "--parsable", "--chdir",
        "--wrap", "--signal", "--requeue", "--no-requeue")  # fmt: skip
"""Flags that the target sets itself."""
BY_KEY = {
    "--partition": "partition", "--account": "account", "--qos": "qos", "--constraint": "constraint", "--exclude": "exclude",
    "--reservation": "reservation", "--time": "time", "--mem": "memory", "--cpus-per-task": "cpus",
}  # fmt: skip
"""Flags that have an option of their own."""
BY_HARDWARE = ("--nodes", "--ntasks", "--ntasks-per-node", "--gpus", "--gpus-per-node", "--gpus-per-task", "--job-name")
"""Flags that follow from the plan: others would start another number of processes."""


@frozen
class Group:
    """Jobs of one script: one stage, or the points of an axis as an array. after: dependencies, as `submit.sh` reads them."""

    script: str
    jobs: tuple[Job, ...]
    after: tuple[str, ...] = ()


@frozen
class SlurmTarget:
    name: str = NAME
    title: str = "Slurm"

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        """Options that are no names, flags that this target sets itself, launchers that ssh to nodes or use Ray."""
        check_texts(plan, jobs, NAME, session, title=self.title)
        for job in jobs:
            for text in options_of(plan, job, NAME).get("options", ()):
                if not re.fullmatch(OPTION, text):
                    refuse(plan, job, session, f"`{text}` is no flag of sbatch", help="write `--name=value`")
                elif (flag := text.partition("=")[0]) in (*OURS, *BY_HARDWARE):
                    help = "write it in `hardware`" if flag in BY_HARDWARE[:-1] else "drop it"
                    refuse(plan, job, session, f"`{flag}` is set by ftdsl", help=help)
                elif flag in BY_KEY:
                    help = f"write `slurm({BY_KEY[flag]} = …)`"
                    refuse(plan, job, session, f"`{flag}` has an option of its own", help=help)
        check_launchers(plan, jobs, session, title=self.title)
        check_devices(plan, jobs, session, title=self.title)

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        """`submit.sh`, `slurm/job.sh`, and a script per group of jobs."""
        groups = groups_of(plan, jobs)
        name = plan.recipe.name
        files = {f"slurm/{group.script}": _script(plan, group) for group in groups}
        files["slurm/job.sh"] = render("slurm/job.sh.j2", name=name)
        if any(job.nodes > 1 for job in jobs):
            files["slurm/node.sh"] = render("slurm/node.sh.j2", name=name)
        files[JOBS] = json.dumps({"schema": 1, "scripts": [_listed(plan, group) for group in groups]}, indent=1) + "\n"
        files["submit.sh"] = _submit(plan, groups)
        return files

    def next_step(self, folder: str) -> tuple[str, ...]:
        return ("bash", f"{folder}/submit.sh")

    def asks(self, plan: Plan, job: Job) -> str:
        options = options_of(plan, job, NAME)
        partition = partition_of(options, gpus=hardware_of(plan, job).gpus)
        first = [f"partition {partition}"] if partition else ["the default partition"]
        return request_text(plan, job, options, seconds_of(plan, job), *first)


# --- what is asked for


def flags_of(plan: Plan, job: Job) -> list[str]:
    """What a job asks of Slurm, as flags of sbatch."""
    options = options_of(plan, job, NAME)
    asked, cards = hardware_of(plan, job), hardware_of(plan, job).gpus
    planned = stage_of(plan, job)
    partition = partition_of(options, gpus=cards)
    flags = [f"--partition={partition}"] if partition else []
    flags += [f"--{name}={options[name]}" for name in ("account", "qos", "constraint", "exclude", "reservation")
              if name in options]  # fmt: skip
    least = planned.world.least_nodes if planned and planned.world.elastic else 0
    flags += [f"--nodes={least}-{job.nodes}" if least else f"--nodes={job.nodes}", "--ntasks-per-node=1"]
    if cards:
        flags.append(f"--gres={options['gpus']}:{cards}" if "gpus" in options else f"--gpus-per-node={cards}")
    flags.append(f"--cpus-per-task={options.get('cpus') or asked.cpus}")
    memory = options.get("memory") or asked.memory
    if memory:
        flags.append(f"--mem={math.ceil(memory / 2**20)}M")
    return [*flags, *_times(plan, job, options), *map(str, options.get("options", ()))]


def partition_of(options: Mapping[str, Any], *, gpus: int) -> str:
    """The partition of a job; "" for the cluster's default one."""
    name = options.get("partition", "")
    return str(name if gpus else options.get("cpu_partition", name))


def seconds_of(plan: Plan, job: Job) -> float | None:
    """The time limit of a job: its target's, else the recipe's budget; None for the partition's."""
    return limit_of(plan, job, NAME)


def _times(plan: Plan, job: Job, options: Mapping[str, Any]) -> Iterator[str]:
    limit = seconds_of(plan, job)
    if limit:
        yield f"--time={max(1, math.ceil(limit / 60))}"
    if job.kind in TRAINING:
        before = int(options.get("save_before", SAVE_BEFORE))
        yield f"--signal=B:USR1@{min(before, int(limit / 2)) if limit else before}"
    yield "--requeue" if requeue_of(options) else "--no-requeue"


def requeue_of(options: Mapping[str, Any]) -> int:
    return int(options.get("requeue", REQUEUE))


# --- groups


def groups_of(plan: Plan, jobs: tuple[Job, ...]) -> list[Group]:
    """Jobs by script: the points of an axis are one array where they ask for the same and wait for the same, or each for its
    own point of another array.
    """
    groups: list[Group] = []
    where: dict[str, tuple[str, int, int]] = {}  # job -> script, index in it, size
    for points in _points(plan, jobs):
        after = _after(points, where)
        together = [points] if after is not None else [[job] for job in points]
        for members in together:
            needs = after if after is not None else _after(members, where)
            assert needs is not None, "one job waits for what it waits for"
            script = _file_name(members)
            groups.append(Group(script, tuple(members), needs))
            where |= {job.key: (script, at, len(members)) for at, job in enumerate(members)}
    return groups


def _points(plan: Plan, jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs of one stage that ask for the same, at the place of the last of them."""
    asked: dict[tuple[str, ...], list[Job]] = {}
    position = {job.key: at for at, job in enumerate(jobs)}
    for job in jobs:
        asked.setdefault((job.key.partition("@")[0], *flags_of(plan, job)), []).append(job)
    parts = [part for points in asked.values() for part in _independent(points)]
    yield from sorted(parts, key=lambda points: max(position[job.key] for job in points))


def _independent(points: list[Job]) -> list[list[Job]]:
    """Points of which one needs another are no array."""
    keys = {job.key for job in points}
    return [[job] for job in points] if any(keys & {*job.needs} for job in points) else [points]


def _after(points: Sequence[Job], where: Mapping[str, tuple[str, int, int]]) -> tuple[str, ...] | None:
    """What a group waits for; None where its jobs wait for different things."""
    needs = [tuple(where[need] for need in job.needs if need in where) for job in points]
    if len({*needs}) == 1:
        return tuple(f"afterok:{script}:{at}" if size > 1 else f"afterok:{script}" for script, at, size in needs[0])
    scripts = [tuple(script for script, _, _ in need) for need in needs]
    if len({*scripts}) != 1:
        return None
    dependencies = []
    for column in zip(*needs, strict=True):
        script, _, size = column[0]
        if len({*column}) == 1:
            dependencies.append(f"afterok:{script}" if size == 1 else f"afterok:{script}:{column[0][1]}")
        elif size == len(points) and all(at == index for index, (_, at, _) in enumerate(column)):
            dependencies.append(f"aftercorr:{script}")
        else:
            return None
    return tuple(dependencies)


def _file_name(jobs: Sequence[Job]) -> str:
    name = jobs[0].folder if len(jobs) == 1 else jobs[0].key.partition("@")[0]
    return f"{re.sub(r'[^A-Za-z0-9.=_,@+-]', '_', name)}.sbatch"


# --- as text


def _script(plan: Plan, group: Group) -> str:
    first = group.jobs[0]
    options = options_of(plan, first, NAME)
    array = len(group.jobs) > 1
    label = re.sub(r"[^\w.=,@+-]", "_", f"{plan.recipe.name}.{_stage_name(first, array=array)}")
    flags = [f"--job-name={label}", *flags_of(plan, first), "--open-mode=append"]
    flags.append(f"--output=slurm/{'%A_%a' if array else '%j'}.out")
    if array:
        most = options.get("at_once")
        flags.append(f"--array=0-{len(group.jobs) - 1}{f'%{most}' if most else ''}")
    title = f"{group.script}: {first.title}" + (f" ({first.location})" if first.location else "")
    return render(
        "slurm/job.sbatch.j2",
        title=title,
        flags=flags,
        folders=[job.folder for job in group.jobs],
        modules=options.get("modules", ()),
        nodes=str(first.nodes),
        requeue=str(requeue_of(options)),
        python=variable_of(first),
    )


def _stage_name(job: Job, *, array: bool) -> str:
    """For lists of jobs: of an array without the point, and of jobs of no stage without their mark."""
    return job.key.partition("@")[0] if array else job.key.removesuffix("()")


def _listed(plan: Plan, group: Group) -> dict[str, Any]:
    most = options_of(plan, group.jobs[0], NAME).get("at_once") if len(group.jobs) > 1 else None
    return {"script": group.script, "folders": [job.folder for job in group.jobs], "at_once": most}


def _submit(plan: Plan, groups: list[Group]) -> str:
    rows = [
        {"script": group.script, "after": group.after, "folders": [job.folder for job in group.jobs]}
        for group in groups
    ]
    arrays = [group for group in groups if len(group.jobs) > 1]
    limits = [(group.script, options_of(plan, group.jobs[0], NAME).get("at_once")) for group in arrays]
    return render(
        "slurm/submit.sh.j2",
        name=plan.recipe.name,
        doc=plan.recipe.doc.splitlines(),
        default_run=f"runs/{plan.recipe.name}/by-hand",
        groups=rows,
        limited=[{"script": script, "at_once": str(most)} for script, most in limits if most],
        **for_template(plan, [job for group in groups for job in group.jobs]),
    )


TARGET = SlurmTarget()
