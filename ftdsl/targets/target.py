"""The seam of targets: what starts a recipe's jobs. Every target gets the same jobs, each a folder with a `launch.sh`, and adds
the scripts or job descriptions of one scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.session import Session


class Target(Protocol):
    """A way to run compiled jobs: bash, a scheduler, a cluster."""

    @property
    def name(self) -> str:
        """As `ftc compile --target` has it."""

    @property
    def title(self) -> str:
        """As people call it."""

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        """Adds to the sink what this target cannot run. Raises nothing."""

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        """What it adds to the build folder: text by path. The same text for the same jobs; values of a recipe only through
        the filters of `ftdsl.targets.render`, which quote them.
        """

    def next_step(self, folder: str) -> tuple[str, ...]:
        """The command that starts what lies in a build folder, as words."""
