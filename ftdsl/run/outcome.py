"""How far one recipe came when it was carried out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.observe.progress import RunProgress
from ftdsl.observe.study import StudyPicture
from ftdsl.record import replace
from ftdsl.run import faults

if TYPE_CHECKING:
    from ftdsl.targets.compiled import Compiled

INTERRUPTED = 130


@dataclass
class Outcome:
    """One recipe's. `status`: as an exit status: 0 all is done, 1 a stage failed or cannot run here, 3 a gate refused, 130
    stopped; `seconds` it took; `message`: why nothing could be carried out, in a sentence; `nothing_to_do`: all was done
    before; `diagnostics` of the check; `problems` of the run, at their places in the recipe; `unexplained`: keys of stages of
    which nobody knows why they failed; `study`: all trials of a search.
    """

    file: str = ""
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    seconds: float = 0.0
    message: str = ""
    nothing_to_do: bool = False
    diagnostics: list[Diagnostic] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    progress: RunProgress | None = None
    compiled: Compiled | None = None
    study: StudyPicture | None = None

    def ended(self, status: int) -> Outcome:
        self.status, self.seconds = status, time.monotonic() - self.began
        return self

    def add_faults(self, faults_by_key: Iterable[tuple[str, faults.Fault]]) -> None:
        """Stages that cannot run, or failed, by job key."""
        for key, fault in faults_by_key:
            self._add(key, fault, Severity.ERROR)
            if not fault.known:
                self.unexplained.append(key)

    def add_warnings(self, warnings_by_key: Iterable[tuple[str, faults.Fault]]) -> None:
        for key, fault in warnings_by_key:
            self._add(key, fault, Severity.WARNING)

    def _add(self, key: str, fault: faults.Fault, severity: Severity) -> None:
        if self.compiled is None:
            return
        new = faults.diagnostic(fault, key, self.compiled.plan, severity)
        for at, problem in enumerate(self.problems):
            keys, _, message = problem.message.partition(": ")
            if (problem.code, problem.span, message) == (
                new.code,
                new.span,
                fault.message,
            ):  # several stages, one cause
                self.problems[at] = replace(problem, message=f"{keys}, `{key}`: {message}")
                return
        self.problems.append(new)


def status_of(outcomes: Sequence[Outcome]) -> int:
    """Of several recipes the worst: interrupted, failed, wrong usage, a gate that refuses."""
    statuses = {outcome.status for outcome in outcomes}
    return next((status for status in (INTERRUPTED, 1, 2, 3) if status in statuses), 0)
