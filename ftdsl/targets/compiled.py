"""What a compile hands on: to whoever writes it, and to whoever carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.smoke.replaced import Replacement, lines


@frozen
class Compiled:
    """A recipe as artifacts: path in the build folder -> content; `lock`: where it lies and what it says now.

    `replaced`: what a smoke run replaced; `wanted`: packages that the real jobs need, by job key.
    """

    name: str
    folder: Path
    plan: Plan
    jobs: tuple[Job, ...]
    files: dict[str, bytes]
    lock: tuple[Path, bytes]
    replaced: tuple[Replacement, ...] = ()
    wanted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def replaced_lines(self) -> list[str]:
        """What was replaced, in words."""
        return list(lines(self.replaced))
