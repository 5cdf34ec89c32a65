"""What a recipe's jobs ask a scheduler for, and whether it would take them, where it is at hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ftdsl.diagnostics import Diagnostic
from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.run.faults import Fault, diagnostic
from ftdsl.run.launchers.launcher import LaunchError, NotAnsweredError
from ftdsl.run.launchers.slurm import SlurmLauncher
from ftdsl.storage import write_files
from ftdsl.targets.target import AskingTarget, Target


@frozen
class JobRequest:
    """What the job of a stage asks for. answer: what the scheduler says of it, "" where it was not asked; problem: why it would
    refuse it, at the recipe's line.
    """

    key: str
    text: str
    answer: str = ""
    problem: Diagnostic | None = None


def job_requests(plan: Plan, jobs: tuple[Job, ...], target: Target, env: Mapping[str, str]) -> list[JobRequest]:
    """Of every job, in order; empty for a target that asks nobody. Raises: OSError when no temporary file can be written."""
    if not isinstance(target, AskingTarget):
        return []
    answers: Mapping[str, str | LaunchError] = {}
    here = target.name == SlurmLauncher.name and shutil.which("sbatch", path=env.get("PATH")) is not None
    if here:
        with TemporaryDirectory(prefix="ftc-") as folder:
            texts = target.scripts(plan, jobs)
            write_files(Path(folder), {path: text.encode() for path, text in texts.items()})
            answers = SlurmLauncher(env).try_out(Path(folder))
    return [_job_request(job, target.asks(plan, job), answers.get(job.folder), plan) for job in jobs]


def _job_request(job: Job, text: str, answer: str | LaunchError | None, plan: Plan) -> JobRequest:
    if answer is None:
        return JobRequest(job.key, text)
    if isinstance(answer, NotAnsweredError):
        return JobRequest(job.key, text, str(answer))
    if isinstance(answer, LaunchError):
        fault = Fault(str(answer), answer.keys, answer.help)
        return JobRequest(job.key, text, f"refused: {answer}", diagnostic(fault, job.key, plan))
    return JobRequest(job.key, text, f"would start at {answer}" if answer else "would be taken")
