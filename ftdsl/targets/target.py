"""The interface of targets: what starts a recipe's jobs. Every target gets the same jobs, each a folder with a `launch.sh`, and
adds the scripts or job descriptions of one scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.session import Session


class Target(Protocol):
    """A way to run compiled jobs: bash, a scheduler, a cluster."""

    @property
    def name(self) -> str:
        """The value of `ftc compile --target`."""

    @property
    def title(self) -> str:
        """The name in messages."""

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        """Report to the sink what this target cannot run. Raises nothing."""

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        """The files that it adds to the build folder: text by path. The same jobs must give the same text, and values of a
        recipe must pass through the filters of `ftdsl.targets.render`, which quote them.
        """

    def next_step(self, folder: str) -> tuple[str, ...]:
        """The command that starts a build folder, as arguments."""


@runtime_checkable
class AskingTarget(Target, Protocol):
    """A target that asks a scheduler for machines, and can say for what."""

    def asks(self, plan: Plan, job: Job) -> str:
        """What a job asks for, in a line: `partition gpu, 2 nodes x 8 GPUs, 32 cores, at most 8 h`."""
