"""The stage graph carried out: in order, side by side where there is room, stopped cleanly, gone on with later."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.observe.metrics import Tail, read_result
from ftdsl.observe.progress import RunProgress, StageProgress, Status, View
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.faults import Fault, read, told
from ftdsl.run.process import Process, last_words
from ftdsl.run.resources import Resources
from ftdsl.run.store import JobState, Run, mark_smoke

TICK = 0.1
GATE_REFUSED = 3


@dataclass
class _Running:
    job: Job
    process: Process
    tail: Tail
    end: dict[str, Any] = field(default_factory=dict)


@dataclass
class Executor:
    """Runs the jobs of one run folder that are not done; every change of state is on disk before the next.

    `faults` and `warnings`: why stages broke, and what they warned of, by job key. `when_done` hears of each stage that
    ends well.
    """

    run: Run
    jobs: tuple[Job, ...]
    keys: CacheKeys
    python: Path
    resources: Resources
    view: View
    progress: RunProgress
    running: dict[str, _Running] = field(default_factory=dict)
    asked_to_stop: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    warnings: list[tuple[str, Fault]] = field(default_factory=list)
    when_done: Callable[[StageProgress], None] = lambda stage: None

    def execute(self) -> None:
        """Until nothing runs and nothing can start."""
        with self._signals():
            self.view.begin(self.progress, time.time())
            try:
                while self._step():
                    time.sleep(TICK)
            finally:
                for one in self.running.values():
                    one.process.stop(now=True)
                self.run.finished = all(stage.status.ok for stage in self.progress.stages)
                self.run.save()
                self.view.end(self.progress, time.time())

    def _step(self) -> bool:
        for one in list(self.running.values()):
            self._watch(one)
        if not self.asked_to_stop:
            self._skip_hopeless()
            for job in self._ready():
                if self.resources.fits(job):
                    self._start(job)
        self.view.update(self.progress, time.time())
        return bool(self.running)

    # --- which

    def _stage(self, key: str) -> StageProgress:
        return self.progress.stage(key)

    def _ready(self) -> list[Job]:
        waiting = [job for job in self.jobs if self._stage(job.key).status is Status.WAITING]
        return [job for job in waiting if all(self._stage(need).status.ok for need in job.needs)]

    def _skip_hopeless(self) -> None:
        """What waits for something that failed will not run."""
        bad = (Status.FAILED, Status.REFUSED, Status.SKIPPED, Status.STOPPED)
        for job in self.jobs:
            stage = self._stage(job.key)
            cause = next((need for need in job.needs if self._stage(need).status in bad), None)
            if stage.status is Status.WAITING and cause:
                stage.status, stage.message = Status.SKIPPED, f"needs {cause}"
                self._note(stage)

    # --- start, watch, end

    def _start(self, job: Job) -> None:
        folder = self.run.folder / job.folder
        for name in ("result.json", "metrics.jsonl", "done"):
            (folder / name).unlink(missing_ok=True)
        stage = self._stage(job.key)
        stage.status, stage.started = Status.RUNNING, time.time()
        env = {**os.environ, "FT_PYTHON": str(self.python), "PYTHONUNBUFFERED": "1", **self.resources.take(job)}
        self._note(stage)
        self.running[job.key] = _Running(job, Process(self.run.folder, job.folder, env), Tail(folder / "metrics.jsonl"))

    def _watch(self, one: _Running) -> None:
        status = one.process.poll()
        stage = self._stage(one.job.key)
        for event in one.tail.read():
            stage.apply(event, time.time())
            if event["event"] == "end":
                one.end = event
            elif event["event"] == "warning" and event.get("message"):
                self.warnings.append((stage.key, fault := told(event, self.run.folder)))
                self.view.note(f"warning: {stage.key}: {fault.message}")
        words = last_words(one.process.log, 1)
        stage.said = words[0] if words else ""
        if status is not None:
            del self.running[one.job.key]
            self.resources.give_back(one.job)
            self._end(one.job, stage, status, one.end)

    def _end(self, job: Job, stage: StageProgress, status: int, end: dict[str, Any]) -> None:
        folder = self.run.folder / job.folder
        stage.ended, stage.result = time.time(), read_result(folder)
        if self.asked_to_stop:
            stage.status, stage.message = Status.STOPPED, "interrupted"
        elif status == GATE_REFUSED and job.gates:
            stage.status = Status.REFUSED
            stage.message = "; ".join(w.removeprefix("gate ") for w in last_words(folder / "log.txt") if "REFUSED" in w)
        elif status:
            stage.status = Status.FAILED
            self.faults[stage.key] = fault = read(end, folder / "log.txt", status)
            stage.message = fault.message
        elif missing := self._missing(job, stage):
            stage.status, stage.message = Status.FAILED, missing
            self.faults[stage.key] = Fault(missing, ("outputs", "to"))
        else:
            stage.status, stage.message = Status.DONE, ""
            (folder / "done").touch()
            self.when_done(stage)
        if self.run.smoke:
            mark_smoke(folder)
        self._note(stage)

    def _missing(self, job: Job, stage: StageProgress) -> str:
        """A stage that ended well must have left what it is for."""
        if job.kind == "shell":
            lost = [path for path in job.outputs if not (self.run.folder / path).exists()]
            return f"it left no {lost[0]}" if lost else ""
        return "" if stage.result else "it ended without a result"

    def _note(self, stage: StageProgress) -> None:
        self.run.jobs[stage.key] = JobState(
            stage.status.value,
            self.keys[stage.key],
            stage.started,
            stage.ended,
            stage.message,
            stage.cached_from,
            stage.folder,
            self.keys.facts[stage.key],
        )
        self.run.save()

    # --- Ctrl-C

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C (or SIGTERM) asks the children to stop and keeps the state; the second kills them."""

        def stop(_number: int, _frame: object) -> None:
            self.asked_to_stop += 1
            self.progress.stopping = True
            for one in list(self.running.values()):
                one.process.stop(now=self.asked_to_stop > 1)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
