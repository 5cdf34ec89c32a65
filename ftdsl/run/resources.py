"""Resources of this machine for jobs, and which are taken: cores for CPU jobs, GPUs for the others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from ftdsl.engines.jobs import Job


def visible_gpus(env: Mapping[str, str]) -> list[str]:
    """Ids of the GPUs jobs may use: CUDA_VISIBLE_DEVICES, else what nvidia-smi lists."""
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(at) for at, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]


@dataclass
class Resources:
    """Free cores and GPUs; `most` caps how many jobs run side by side; elsewhere: jobs run on other machines, which a scheduler
    assigns.
    """

    cores: int
    gpus: list[str]
    most: int
    elsewhere: bool = False
    _held: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def fits(self, job: Job) -> bool:
        """Whether the job can start now. One that never fits runs alone rather than never."""
        if self.elsewhere:
            return len(self._held) < self.most
        if not self._held:
            return job.accelerators <= len(self.gpus)
        if len(self._held) >= self.most:
            return False
        return self._cores(job) <= self.cores and job.accelerators <= len(self.gpus)

    @staticmethod
    def _cores(job: Job) -> int:
        return 0 if job.accelerators else job.processes

    def take(self, job: Job) -> dict[str, str]:
        """Reserve what the job needs; the environment variables that select its GPUs."""
        gpus, self.gpus = self.gpus[: job.accelerators], self.gpus[job.accelerators :]
        self.cores -= self._cores(job)
        self._held[job.key] = (self._cores(job), gpus)
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}

    def take_these(self, job: Job, gpus: list[str]) -> None:
        """Reserve what a running job already has."""
        self.gpus = [gpu for gpu in self.gpus if gpu not in gpus]
        self.cores -= self._cores(job)
        self._held[job.key] = (self._cores(job), gpus)

    def give_back(self, job: Job) -> None:
        cores, gpus = self._held.pop(job.key)
        self.cores += cores
        self.gpus = sorted(self.gpus + gpus)


def of_this_machine(env: Mapping[str, str], most: int | None) -> Resources:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Resources(cores, visible_gpus(env), most or 64)


def of_a_cluster(most: int | None) -> Resources:
    """What a scheduler assigns: no limit here but the number of jobs that are handed to it."""
    return Resources(0, [], most or 10_000, elsewhere=True)
