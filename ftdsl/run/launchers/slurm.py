"""Slurm: a stage is a job, the points of an axis are tasks of an array, and each waits in the queue for those it needs
(`afterok`). The scripts are those that the target `slurm` compiled into the run folder.

A job's state comes from `squeue`, from the accounting once the queue has forgotten it, and from the file that the job itself
leaves at its end: the end is known though the controller does not answer.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftdsl.run.launchers import slurm_commands as commands
from ftdsl.run.launchers.launcher import Ending, Handle, LaunchError, Task
from ftdsl.run.launchers.log import last_lines
from ftdsl.run.launchers.slurm_commands import QueuedJob
from ftdsl.session import read_json
from ftdsl.storage import write_file

JOBS = "slurm/jobs.json"
RECORD, EXIT, KEY = ".slurm-job", ".slurm-exit", ".key"
ARRAY = "FTC_ARRAY"
"""Variable of a job: the file with a line for each task of an array of several runs, its stage and its run folder."""

INTERVAL = 2.0
"""Seconds between looks at the queue, for all jobs at once."""

LAG = 60.0
"""Seconds that a shared disk may take to show what a job left."""

ENDED = {"COMPLETED": 0, "FAILED": 1, "TIMEOUT": 124, "CANCELLED": 143, "NODE_FAIL": 1, "OUT_OF_MEMORY": 137, "BOOT_FAIL": 1,
         "DEADLINE": 124, "PREEMPTED": 143, "REVOKED": 143, "SPECIAL_EXIT": 1}  # fmt: skip
"""States after which a job does not run again, and the exit status that counts where it left none."""

NOT_SEEN, SAVED_TOO_OFTEN = 96, 75
"""Exit statuses of job.sh and of the scripts that call it."""


class SlurmLauncher:
    """`sbatch slurm/<script>` from a run folder that all nodes see."""

    name = "slurm"

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.env = dict(env if env is not None else os.environ)
        self._jobs: dict[str, QueuedJob] = {}
        self._watched: dict[str, Handle] = {}
        self._looked = 0.0
        self._silent_since = 0.0
        self._gone: dict[str, float] = {}

    # --- try

    def try_out(self, folder: Path) -> dict[str, str | LaunchError]:
        """By stage folder: when Slurm would start its job ("" if it does not say), or why it would refuse it. Submits nothing.

        folder: where the target's files lie.
        """
        answers: dict[str, str | LaunchError] = {}
        by_script: dict[str, str | LaunchError] = {}
        for stage, (script, _, _) in _listed(folder).items():
            if script not in by_script:
                try:
                    by_script[script] = commands.try_out(f"slurm/{script}", folder, self.env)
                except LaunchError as error:
                    by_script[script] = error
            answers[stage] = by_script[script]
        return answers

    # --- start

    def submit(self, task: Task) -> Handle:
        """Raises: LaunchError when Slurm refuses it."""
        (handle,) = self.submit_together([task])
        if isinstance(handle, LaunchError):
            raise handle
        return handle

    def submit_together(self, tasks: Sequence[Task]) -> list[Handle | LaunchError]:
        """One job for each script, an array where several tasks are its points and wait for the same."""
        handles: dict[str, Handle | LaunchError] = {}
        by_script: dict[str, list[tuple[int, Task]]] = {}
        listed = _listed(tasks[0].run) if tasks else {}
        for task in tasks:
            if task.stage not in listed:
                handles[task.stage] = LaunchError("the run folder has no Slurm script for it", help="compile it anew")
                continue
            script, index, _ = listed[task.stage]
            by_script.setdefault(script, []).append((index, task))
        for script, points in by_script.items():
            for group, wait in _together(points):
                submitted = self._submit(script, group, wait, *listed[group[0][1].stage][1:])
                handles |= {task.stage: handle for (_, task), handle in zip(group, submitted, strict=True)}
        return [handles[task.stage] for task in tasks]

    def submit_across(self, tasks: Sequence[Task]) -> list[Handle | LaunchError]:
        """Tasks whose scripts are the same are an array: FTC_ARRAY names a file with the run folder of each."""
        handles: dict[int, Handle | LaunchError] = {}
        alike: dict[str, list[Task]] = {}
        for task in tasks:
            alike.setdefault(_asks(task), []).append(task)
        for asks, group in alike.items():
            if not asks or len(group) == 1:
                handles |= {id(task): self.submit_together([task])[0] for task in group}
                continue
            for points, wait in _together(_indexed(group)):
                handles |= self._submit_array(points, wait)
        return [handles[id(task)] for task in tasks]

    def _submit_array(self, points: list[tuple[int, Task]], wait: str) -> dict[int, Handle | LaunchError]:
        at_once = _listed(points[0][1].run)[points[0][1].stage][2]
        script = _listed(points[0][1].run)[points[0][1].stage][0]
        by_index = dict(points)
        rows = [f"{by_index[at].stage}\t{by_index[at].run.absolute()}" if at in by_index else "" for at in
                range(max(by_index) + 1)]  # fmt: skip
        listing = (points[0][1].run / "slurm" / f"array-{uuid.uuid4().hex[:8]}.txt").absolute()
        write_file(listing, ("\n".join(rows) + "\n").encode())
        named = [(at, replace(task, env={**task.env, ARRAY: str(listing)})) for at, task in points]
        # a stage is called the same in every trial, so handles are taken by their place
        submitted = self._submit(script, named, wait, 0, at_once, ("--output=slurm/%A_%a.out",))
        return {id(task): handle for (_, task), handle in zip(points, submitted, strict=True)}

    def _submit(
        self, script: str, points: list[tuple[int, Task]], wait: str, index: int, at_once: int | None,
        more: Sequence[str] = (),
    ) -> list[Handle | LaunchError]:  # fmt: skip
        first = points[0][1]
        options = [*more, *_waiting(wait)]
        if index >= 0:
            options.append("--array=" + ",".join(str(at) for at, _ in points) + (f"%{at_once}" if at_once else ""))
        starts = [_size(task.log) for _, task in points]
        for _, task in points:
            write_file(task.folder / KEY, task.env.get("FTC_STAGE_KEY", "").encode())
            for name in (EXIT, RECORD):
                (task.folder / name).unlink(missing_ok=True)
        env = {name: value for name, value in first.env.items() if name != "FTC_STAGE_KEY"}
        try:
            job = commands.submit(f"slurm/{script}", first.run, options, env)
        except LaunchError as error:
            return [error for _ in points]
        handles: list[Handle | LaunchError] = []
        for (at, task), start in zip(points, starts, strict=True):
            number = job if index < 0 else f"{job}_{at}"
            record = {"id": number, "log_start": start}
            write_file(task.folder / RECORD, json.dumps(record).encode())
            handles.append(_handle(number, task, start))
        return handles

    def find(self, task: Task) -> Handle | None:
        try:
            record = read_json(task.folder / RECORD)
            return _handle(str(record["id"]), task, int(record["log_start"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    # --- watch

    def poll(self, handle: Handle) -> int | None:
        """What the queue said at the last look; while Slurm does not answer, what the job left at its end."""
        if handle.id not in self._watched:
            self._watched[handle.id], self._looked = handle, 0.0
        self._look()
        job = self._jobs.get(handle.id)
        left = _left(handle)
        if job is None or self._silent_since:
            if left is not None:
                return self._end(handle, left)
            if job is None and not self._silent_since:
                since = self._gone.setdefault(handle.id, time.monotonic())
                if time.monotonic() - since > LAG:
                    return self._end(handle, 1)
            return None
        if _is_held(job):
            commands.cancel([handle.id], self.env)
            return self._end(handle, 1)
        if job.state not in ENDED:
            return None
        if job.state in ("COMPLETED", "FAILED") and left is None and not self._lagged(handle):
            return None  # the disk does not show it yet
        return self._end(handle, ENDED[job.state] if left is None or job.state == "TIMEOUT" else left)

    def _look(self) -> None:
        if time.monotonic() - self._looked < INTERVAL or not self._watched:
            return
        seen = commands.queue(self._watched, self.env)
        self._looked = time.monotonic()
        if seen is None:
            self._silent_since = self._silent_since or time.time()
            return
        self._silent_since = 0.0
        if missing := [id for id in self._watched if id not in seen]:
            seen |= commands.accounted(missing, self.env)
        self._jobs |= seen
        for id in self._watched:
            if id not in seen and self._jobs.get(id, QueuedJob(id, "")).state not in ENDED:
                self._jobs.pop(id, None)

    def _lagged(self, handle: Handle) -> bool:
        """Whether the shared disk had its time; a job that never began leaves nothing."""
        if not (Path(str((handle.facts or {})["folder"])) / "log.txt").exists() and self._reads_local(handle):
            return True
        return time.monotonic() - self._gone.setdefault(handle.id, time.monotonic()) > LAG / 6

    def _reads_local(self, handle: Handle) -> bool:
        """Whether Slurm's own output of the job can be read, which says why it did not begin."""
        return bool(_own_output(handle))

    def _end(self, handle: Handle, status: int) -> int:
        self._watched.pop(handle.id, None)
        return status

    def describe(self, handle: Handle) -> str:
        job = self._jobs.get(handle.id)
        if self._silent_since:
            return f"job {handle.id}: Slurm does not answer"
        if job is None:
            return f"job {handle.id}"
        if job.state == "PENDING":
            return f"job {handle.id} waits: {_reason(job.reason)}"
        return f"job {handle.id} on {job.nodes}" if job.nodes else f"job {handle.id}: {job.state.lower()}"

    def waits(self, handle: Handle) -> bool:
        return self._jobs.get(handle.id, QueuedJob("", "PENDING")).state == "PENDING"

    def ending(self, handle: Handle) -> Ending | None:
        job = self._jobs.get(handle.id, QueuedJob(handle.id, ""))
        name, left = f"job {handle.id}", _left(handle)
        target = ("target",)
        output = _own_output(handle)
        unseen = f"{job.nodes or 'a node'} does not see the run folder {(handle.facts or {}).get('run', '')}"
        share = "it must lie on a disk that all nodes share: run it there"
        if _is_held(job):
            return Ending(
                f"{name} was held by Slurm ({job.reason}): {unseen}, or slurmd cannot start it", target, share
            )
        if job.state == "TIMEOUT":
            help = "raise `time`, or save more often: ftc run goes on from the last checkpoint"
            return Ending(f"{name} reached its time limit", (*target, "budget.time"), help)
        if job.state == "OUT_OF_MEMORY":
            return Ending(
                f"{name} used more main memory than it asked for", (*target, "hardware.memory"), "raise `memory`"
            )
        if job.state in ("NODE_FAIL", "BOOT_FAIL"):
            return Ending(f"{name} lost its node {job.nodes}", target, "ftc run goes on from the last checkpoint")
        if job.state == "CANCELLED":
            return Ending(f"{name} was cancelled", target, "ftc run goes on from the last checkpoint")
        if left == SAVED_TOO_OFTEN:
            help = "raise `time` or `requeue`; ftc run goes on from the last checkpoint"
            return Ending(f"{name} saved at its time limit and is not requeued again", target, help)
        if left is None and any("does not see" in line for line in output):
            return Ending(
                next(line for line in output if "does not see" in line).removeprefix("error: "), target, share
            )
        if left is None and job.state == "FAILED":
            return Ending(f"{name} left no log: {unseen}", target, share)
        if left is None and not job.state:
            return Ending(f"Slurm no longer knows {name}, and it left no exit status", target, "type: ftc run again")
        return None

    # --- stop

    def cancel(self, handle: Handle, *, now: bool = False) -> None:
        """Slurm asks with SIGTERM, and kills after its KillWait."""
        commands.cancel([*(("--signal=KILL", "--full") if now and self._runs(handle) else ()), handle.id], self.env)
        self._looked = 0.0

    def _runs(self, handle: Handle) -> bool:
        return self._jobs.get(handle.id, QueuedJob("", "")).state == "RUNNING"

    def tail(self, handle: Handle, lines: int = 12) -> list[str]:
        return last_lines(handle.log, lines, handle.log_start) or _own_output(handle)[-lines:]


def _handle(id: str, task: Task, log_start: int) -> Handle:
    facts = {"folder": str(task.folder.absolute()), "run": str(task.run.absolute()), "pid": f"Slurm's job {id}"}
    return Handle(SlurmLauncher.name, id, task.log, log_start, facts)


def _listed(run: Path) -> dict[str, tuple[str, int, int | None]]:
    """Stage folder -> its script, its index in the script's array (-1: no array), tasks at once. What the target wrote."""
    try:
        scripts: list[dict[str, Any]] = read_json(run / JOBS)["scripts"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    stages: dict[str, tuple[str, int, int | None]] = {}
    for row in scripts:
        array = len(row["folders"]) > 1
        for index, folder in enumerate(row["folders"]):
            stages[folder] = (row["script"], index if array else -1, row.get("at_once"))
    return stages


def _asks(task: Task) -> str:
    """What a script asks for, without the folders that it lists; "" where it is an array itself, or is not there."""
    script, index, _ = _listed(task.run).get(task.stage, ("", 0, None))
    if index >= 0:
        return ""
    try:
        lines = commands.small(task.run / "slurm" / script).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    inside = [at for at, line in enumerate(lines) if line == "folders=("]
    folders = range(inside[0], inside[0] + 3) if inside else range(0)
    return "\n".join(line for at, line in enumerate(lines) if at not in folders)


def _indexed(tasks: Sequence[Task]) -> list[tuple[int, Task]]:
    """Indices of an array: where each waits for its own point of another array, those of that."""
    own = [{handle.id.partition("_")[2] for handle in task.after} for task in tasks]
    numbers = [int(next(iter(ids))) for ids in own if len(ids) == 1 and next(iter(ids)).isdigit()]
    same = len(numbers) == len(tasks) == len(set(numbers))
    return sorted(zip(numbers if same else range(len(tasks)), tasks, strict=True), key=lambda point: point[0])


def _waiting(wait: str) -> list[str]:
    return [f"--dependency={wait}", "--kill-on-invalid-dep=yes"] if wait else []


def _together(points: list[tuple[int, Task]]) -> list[tuple[list[tuple[int, Task]], str]]:
    """Points of one script that one sbatch submits, and what they wait for."""
    needs = [{handle.id for handle in task.after} for _, task in points]
    common = set.intersection(*needs)
    own = [need - common for need in needs]
    if not any(own):
        return [(points, _dependency("afterok", common))]
    paired = all(id.partition("_")[2] == str(at) for (at, _), ids in zip(points, own, strict=True) for id in ids)
    bases = {frozenset(id.partition("_")[0] for id in ids) for ids in own}
    if paired and len(bases) == 1:
        (arrays,) = bases
        return [(points, ",".join(filter(None, (_dependency("aftercorr", arrays), _dependency("afterok", common)))))]
    return [([point], _dependency("afterok", need)) for point, need in zip(points, needs, strict=True)]


def _dependency(kind: str, ids: set[str] | frozenset[str]) -> str:
    return ",".join(f"{kind}:{id}" for id in sorted(ids))


def _reason(reason: str) -> str:
    """Slurm's reason in plain words, where it has one that needs them."""
    plain = {"None": "not looked at yet", "Dependency": "for stages it needs", "BeginTime": "to be started again"}
    return plain.get(reason, reason)


def _is_held(job: QueuedJob) -> bool:
    return job.state == "REQUEUE_HOLD" or (
        job.state == "PENDING" and "held" in job.reason and "launch failed" in job.reason
    )


def _left(handle: Handle) -> int | None:
    """The exit status that a job wrote at its end; None where it wrote none, or another job did."""
    folder = Path(str((handle.facts or {})["folder"]))
    try:
        job, status = commands.small(folder / EXIT).decode("ascii").split()
        return int(status) if job else None
    except (OSError, ValueError):
        return None


def _own_output(handle: Handle) -> list[str]:
    """What Slurm itself and the script before job.sh have printed."""
    run = Path(str((handle.facts or {}).get("run", ".")))
    return last_lines(run / "slurm" / f"{handle.id}.out")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
