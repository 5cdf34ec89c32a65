"""The judges while a run goes on: a view that looks at what running stages log, and notes what it finds, once.

Only findings that more steps cannot take back are noted: what broke, spikes, held-out losses that rise, memory, speed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ftdsl.diagnose.diagnosis import diagnose
from ftdsl.diagnose.read import CurvesBuilder, config_beside
from ftdsl.observe.metrics import Tail
from ftdsl.observe.progress import RunProgress, StageProgress, Status, View
from ftdsl.runtime import events

EVERY = 10.0
"""Seconds between two looks at a stage; more where judging takes longer than a fiftieth of that."""
CERTAIN = frozenset(("FD101", "FD102", "FD103", "FD104", "FD105", "FD204", "FD301", "FD501", "FD502", "FD602", "FD603"))


@dataclass
class _Watched:
    """What was read of a stage so far."""

    tail: Tail
    builder: CurvesBuilder = field(default_factory=CurvesBuilder)
    noted: set[str] = field(default_factory=set)
    due: float = 0.0


class JudgingView:
    """Another view, and a note for each finding about a stage that runs. Smoke runs are not judged."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._watched: dict[str, _Watched] = {}

    def note(self, text: str) -> None:
        self.view.note(text)

    def begin(self, run: RunProgress, now: float) -> None:
        self.view.begin(run, now)

    def update(self, run: RunProgress, now: float) -> None:
        for stage in run.having(Status.RUNNING) if not run.smoke else ():
            self._look(run, stage, now)
        self.view.update(run, now)

    def end(self, run: RunProgress, now: float) -> None:
        for stage in run.stages if not run.smoke else ():
            if stage.key in self._watched:
                self._watched[stage.key].due = 0.0
                self._look(run, stage, now)
        self.view.end(run, now)

    def _look(self, run: RunProgress, stage: StageProgress, now: float) -> None:
        path = run.folder / stage.folder / events.METRICS
        watched = self._watched.get(stage.key)
        if watched is None:
            watched = self._watched[stage.key] = _Watched(Tail(path), due=now + EVERY)
        if now < watched.due:
            return
        began = time.perf_counter()
        watched.builder.add_events(watched.tail.read())
        findings = diagnose(watched.builder.curves(path.as_posix(), config_beside(path), stage.folder))
        for finding in findings:
            if finding.code in CERTAIN and finding.code not in watched.noted:
                watched.noted.add(finding.code)
                where = f" (step {finding.step})" if finding.step else ""
                self.note(f"warning: {stage.folder}: {finding.message}{where} [{finding.code}]; {finding.evidence[0]}")
        watched.due = now + max(EVERY, 50 * (time.perf_counter() - began))
