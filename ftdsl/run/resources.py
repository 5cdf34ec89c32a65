"""What this machine has for jobs, and what is taken: cores for CPU jobs, cards for the others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from ftdsl.engines.jobs import Job


def visible_cards(env: Mapping[str, str]) -> list[str]:
    """Ids of the cards jobs may use: CUDA_VISIBLE_DEVICES, else what nvidia-smi lists."""
    told = env.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [part.strip() for part in told.split(",") if part.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(at) for at, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]


@dataclass
class Resources:
    """Free cores and cards; `most` caps how many jobs run side by side; elsewhere: jobs run on other machines, which a scheduler
    assigns.
    """

    cores: int
    cards: list[str]
    most: int
    elsewhere: bool = False
    _held: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def fits(self, job: Job) -> bool:
        """Whether the job can start now. One that never fits runs alone rather than never."""
        if self.elsewhere:
            return len(self._held) < self.most
        if not self._held:
            return job.accelerators <= len(self.cards)
        if len(self._held) >= self.most:
            return False
        return self._cores(job) <= self.cores and job.accelerators <= len(self.cards)

    @staticmethod
    def _cores(job: Job) -> int:
        return 0 if job.accelerators else job.processes

    def take(self, job: Job) -> dict[str, str]:
        """Hold what the job needs; the variables that tell it which cards are its own."""
        cards, self.cards = self.cards[: job.accelerators], self.cards[job.accelerators :]
        self.cores -= self._cores(job)
        self._held[job.key] = (self._cores(job), cards)
        return {"CUDA_VISIBLE_DEVICES": ",".join(cards)} if cards else {}

    def take_these(self, job: Job, cards: list[str]) -> None:
        """Hold what a job that runs already has."""
        self.cards = [card for card in self.cards if card not in cards]
        self.cores -= self._cores(job)
        self._held[job.key] = (self._cores(job), cards)

    def give_back(self, job: Job) -> None:
        cores, cards = self._held.pop(job.key)
        self.cores += cores
        self.cards = sorted(self.cards + cards)


def of_this_machine(env: Mapping[str, str], most: int | None) -> Resources:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Resources(cores, visible_cards(env), most or 64)


def of_a_cluster(most: int | None) -> Resources:
    """What a scheduler assigns: no limit here but the number of jobs that are handed to it."""
    return Resources(0, [], most or 10_000, elsewhere=True)
