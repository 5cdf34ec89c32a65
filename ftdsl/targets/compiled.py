"""The result of a compile, for those who write it or run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.smoke.report import Replacement, lines


@frozen
class Compiled:
    """A recipe as artifacts.

    files: content by path in the build folder; lock: its path and new content; replaced: what a smoke run replaced; wanted:
    packages that the real jobs need, by job key; target: the name of what starts the jobs.
    """

    name: str
    folder: Path
    plan: Plan
    jobs: tuple[Job, ...]
    files: dict[str, bytes]
    lock: tuple[Path, bytes]
    replaced: tuple[Replacement, ...] = ()
    wanted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    target: str = "bash"

    def replaced_lines(self) -> list[str]:
        """The replacements as text."""
        return list(lines(self.replaced))
