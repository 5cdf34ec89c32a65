"""Carries out the stage graph: in order, in parallel where resources allow; stops cleanly and resumes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.observe.metrics import Tail, read_result
from ftdsl.observe.progress import RunProgress, StageProgress, Status, View
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.environments import Environment
from ftdsl.run.faults import Fault, fault_of, full_disk, read
from ftdsl.run.fingerprint import made_by
from ftdsl.run.launchers.launcher import IN_UTF8, Handle, Launcher, LaunchError, QueueLauncher, Task
from ftdsl.run.launchers.log import progress_line
from ftdsl.run.preload import Preload
from ftdsl.run.resources import Resources
from ftdsl.run.stop import Stop
from ftdsl.run.store import Run, mark_smoke
from ftdsl.run.unsupervised import GATE_REFUSED, refusals_of
from ftdsl.runtime import events
from ftdsl.session import open_regular
from ftdsl.storage import sentence

TICK = 0.1
RETRY = 2.0
"""Seconds between attempts to write events to a disk that was full."""


@dataclass
class _Running:
    job: Job
    handle: Handle
    tail: Tail
    times: dict[str, list[int]]
    end: dict[str, Any] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    log_size: int = -1
    known_entries: int = 0
    where: str = ""
    waits: bool = False


@dataclass
class Executor:
    """Runs the jobs of one run folder that are not done; every change of a stage is on disk before the next.

    environments: by name, each with the Python of its jobs. env: what stages inherit. `faults` and `warnings`: why stages
    broke, and what they warned of, by job key. `when_done` is called with each stage that ends well.
    """

    run: Run
    jobs: tuple[Job, ...]
    keys: CacheKeys
    environments: Mapping[str, Environment]
    env: Mapping[str, str]
    launcher: Launcher
    resources: Resources
    view: View
    progress: RunProgress
    stop: Stop
    preload: Preload
    running: dict[str, _Running] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    warnings: list[tuple[str, Fault]] = field(default_factory=list)
    when_done: Callable[[StageProgress], None] = lambda stage: None
    _stops_passed_on: int = 0
    _tried: float = 0.0

    def execute(self) -> None:
        """Until nothing runs and nothing can start. Raises: OSError when the run's events cannot be written.

        While they cannot (a full disk), what runs goes on, and nothing is started.
        """
        self.view.begin(self.progress, time.time())
        try:
            while self._step():
                time.sleep(TICK)
            self._record("end", ok=all(stage.status.ok for stage in self.progress.stages))
            self.run.write_kept()
        finally:
            for running in self.running.values():
                self.launcher.cancel(running.handle, now=True)
            self.view.end(self.progress, time.time())

    def _step(self) -> bool:
        self._heed()
        for running in list(self.running.values()):
            self._watch(running)
        if self.run.unwritten and time.monotonic() - self._tried > RETRY:
            self._write()
        if not self.stop.requests and not self.run.unwritten:
            self._skip_hopeless()
            if isinstance(self.launcher, QueueLauncher):
                self._hand_over(self.launcher)
            for job in self._ready():
                if self.resources.fits(job):
                    self._start(job)
        self.view.update(self.progress, time.time())
        return bool(self.running)

    def _heed(self) -> None:
        """Pass on the host's stop requests since the last call."""
        if self.stop.requests == self._stops_passed_on:
            return
        self._stops_passed_on = self.stop.requests
        self.progress.apply(self._record("stop"))
        for running in self.running.values():
            self.launcher.cancel(running.handle, now=self._stops_passed_on > 1)

    # --- which

    def _stage(self, key: str) -> StageProgress:
        return self.progress.stage(key)

    def _ready(self) -> list[Job]:
        return [job for job in self._unstarted() if all(self._stage(need).status.ok for need in job.needs)]

    def _skip_hopeless(self) -> None:
        """Skip stages that depend on a failed one."""
        bad = (Status.FAILED, Status.REFUSED, Status.SKIPPED, Status.STOPPED)
        for job in self.jobs:
            cause = next((need for need in job.needs if self._stage(need).status in bad), None)
            if cause and (running := self.running.pop(job.key, None)):  # a queue has it, and will not start it
                self.launcher.cancel(running.handle, now=True)
                self.resources.give_back(job)
                self._change(job, Status.SKIPPED, message=f"needs {cause}")
            elif cause and self._stage(job.key).status is Status.WAITING:
                self._change(job, Status.SKIPPED, message=f"needs {cause}")

    # --- start, watch, end

    def _record(self, kind: str, /, **fields: Any) -> events.Event:
        event = self.run.keep(kind, **fields)
        self._write()
        return event

    def _write(self) -> None:
        """The run's events to disk; where that cannot be, they are kept for later, and it is reported once."""
        reported, self._tried = bool(self._tried), time.monotonic()
        try:
            self.run.write_kept()
            self._tried = 0.0
        except OSError as error:
            if not reported:
                self.view.note(f"warning: {sentence(error)}; what runs goes on, and nothing new is started")

    def _change(self, job: Job, status: Status, **fields: Any) -> None:
        """Record a stage's new status, then show it."""
        self.progress.apply(self._record("stage", stage=job.key, status=status.value, folder=job.folder, **fields))

    def join(self, job: Job) -> None:
        """Watch a start of a job that another `ftc` made, as if it were ours. Its log and events are read from their begin."""
        state, folder = self.run.jobs[job.key], self.run.folder / job.folder
        handle = self.launcher.find(self._task(job, {}))
        assert handle is not None, "found before"
        self.resources.take_these(job, state.cards)
        tail = Tail(folder / events.METRICS, _last_attempt(folder))
        known = sum(event["event"] == "guard" for event in self.run.since_start(job.key))
        self._change(job, Status.RUNNING, started=state.started)
        self.running[job.key] = _Running(job, handle, tail, self.keys.times(job), known_entries=known)

    def _task(self, job: Job, env: Mapping[str, str]) -> Task:
        after = tuple(self.running[need].handle for need in job.needs if need in self.running)
        return Task(self.run.folder, job.folder, env, job.processes, job.nodes, job.accelerators, after)

    def _hand_over(self, launcher: QueueLauncher) -> None:
        """Give a queue all there is, each stage with the starts it waits for: it then runs on without this process."""
        while wave := [job for job in self._unstarted() if self._queued(job) and self.resources.fits(job)]:
            wave = wave[: self.resources.most - len(self.running)]
            begun = [(job, start) for job in wave if (start := self._begin_start(job)) is not None]
            handles = launcher.submit_together([task for _, (task, _, _) in begun])
            for (job, (_, tail, times)), handle in zip(begun, handles, strict=True):
                if isinstance(handle, LaunchError):
                    self._not_started(job, handle)
                else:
                    self._started(job, handle, tail, times)
            self._skip_hopeless()

    def _unstarted(self) -> list[Job]:
        return [job for job in self.jobs if self._stage(job.key).status is Status.WAITING]

    def _queued(self, job: Job) -> bool:
        return all(self._stage(need).status.ok or need in self.running for need in job.needs)

    def _start(self, job: Job) -> None:
        start = self._begin_start(job)
        if start is None:
            return
        task, tail, times = start
        try:
            handle = self.launcher.submit(task)
        except (LaunchError, OSError) as error:
            self._not_started(job, error)
            return
        self._started(job, handle, tail, times)

    def _begin_start(self, job: Job) -> tuple[Task, Tail, dict[str, list[int]]] | None:
        """What a start needs, on disk; None where that cannot be written, and the stage has failed."""
        folder = self.run.folder / job.folder
        if self.keys.renew(job):
            self.view.note(f"{job.folder}: what it reads has changed since the run began; it reads what is there now")
        cards = self.resources.take(job)
        times = self.keys.times(job)
        self._change(
            job, Status.RUNNING, started=round(time.time(), 3), key=self.keys[job.key], message="", handle="",
            facts=self.keys.facts[job.key], cards=[card for listed in cards.values() for card in listed.split(",")],
        )  # fmt: skip
        env = {**self.env, **IN_UTF8, "PYTHONUNBUFFERED": "1", "FTC_STAGE_KEY": self.keys[job.key], **cards}
        try:
            env |= self.preload.python(job, self.env, self.run.folder, self.environments[job.environment])
            for name in (events.RESULT, "done"):
                (folder / name).unlink(missing_ok=True)
            return self._task(job, env), Tail(folder / events.METRICS, _begin(folder)), times
        except OSError as error:
            self._not_started(job, error)
            return None

    def _not_started(self, job: Job, error: LaunchError | OSError) -> None:
        self.resources.give_back(job)
        fault = Fault(str(error), error.keys, error.help) if isinstance(error, LaunchError) else Fault(sentence(error))
        self._fail(job, full_disk(self.run.folder / job.folder) or fault)

    def _started(self, job: Job, handle: Handle, tail: Tail, times: dict[str, list[int]]) -> None:
        self.running[job.key] = _Running(job, handle, tail, times)
        self._record("stage", stage=job.key, handle=handle.id)

    def _watch(self, running: _Running) -> None:
        status = self.launcher.poll(running.handle)
        stage, job = self._stage(running.job.key), running.job
        for event in running.tail.read():
            stage.apply(event, time.time())
            kind = event["event"]
            if kind == "end":
                running.end = event
            elif kind == "gate":
                running.refusals += refusals_of([event])
            elif kind == "warning":
                self.warnings.append((stage.key, fault := fault_of(event, self.run.folder)))
                self.view.note(f"warning: {stage.key}: {fault.message}")
            elif kind == "guard":
                self._guarded(running, event)
        while running.tail.malformed:
            self.view.note(f"warning: {stage.key}: {running.tail.malformed.pop(0)}; it is left out")
        self._read_log(running, stage)
        if status is None and isinstance(self.launcher, QueueLauncher):
            self._say_where(running, self.launcher)
        if status and not self.stop.requests and not all(self._stage(need).status.ok for need in job.needs):
            return  # a queue dropped it, since one that it needs has failed: it is skipped
        if status is not None:
            del self.running[job.key]
            self.resources.give_back(job)
            self._end(running, stage, status)

    def _say_where(self, running: _Running, launcher: QueueLauncher) -> None:
        """How a stage stands in a queue, in the run's events where that has changed; its time counts from when it runs."""
        text = launcher.describe(running.handle)
        waits = launcher.waits(running.handle)
        if text != running.where:
            begins = {} if waits or not running.waits else {"started": round(time.time(), 3)}
            self.progress.apply(self._record("stage", stage=running.job.key, message=text, **begins))
        running.where, running.waits = text, waits

    def _guarded(self, running: _Running, event: events.Event) -> None:
        """An entry of a stage's ledger: shown, and kept with the run. Of a start that was joined the first are there already."""
        if running.known_entries:
            running.known_entries -= 1
            return
        entry = {name: event[name] for name in ("step", "anomaly", "action", "message") if name in event}
        self._record("guard", stage=running.job.key, **entry)
        self.view.note(f"{running.job.folder}: {event['message']}")

    def _read_log(self, running: _Running, stage: StageProgress) -> None:
        try:
            size = running.handle.log.stat().st_size
        except OSError:
            size = 0
        if size != running.log_size:
            running.log_size = size
            stage.log_line = progress_line(self.launcher.tail(running.handle, 12))

    def _end(self, running: _Running, stage: StageProgress, status: int) -> None:
        job, folder = running.job, self.run.folder / running.job.folder
        stage.result = read_result(folder)
        if self.run.smoke:
            mark_smoke(folder)
        if self.stop.requests:
            self._change(job, Status.STOPPED, ended=round(time.time(), 3), message="interrupted")
        elif status == events.SAVED and self._saved_as_asked():
            self._change(job, Status.STOPPED, ended=round(time.time(), 3), message="saved, to be continued")
        elif status == GATE_REFUSED and running.refusals:
            self._change(job, Status.REFUSED, ended=round(time.time(), 3), message="; ".join(running.refusals))
        elif status and isinstance(self.launcher, QueueLauncher) and (why := self.launcher.ending(running.handle)):
            self._fail(job, Fault(why.message, why.keys, why.help))
        elif status:
            fault = read(running.end, running.handle.log, status, running.handle.log_start)
            full = (
                None if fault.known else full_disk(folder, self.run.folder / job.result)
            )  # its last words too were lost
            self._fail(job, full or fault)
        elif missing := self._missing(job, stage):
            self._fail(job, Fault(missing, ("outputs", "to")))
        else:
            self._done(running, stage)

    def _saved_as_asked(self) -> bool:
        """Whether a training ended since the host asked it to save, by the file of its environment."""
        answer = self.env.get(events.SAVE_ANSWER)
        return bool(answer) and Path(str(answer)).exists()

    def _done(self, running: _Running, stage: StageProgress) -> None:
        job = running.job
        if self.keys.times(job) != running.times or self.keys.renew(job):
            self.keys.forget(job)
            self.view.note(f"warning: {job.folder}: a file it reads changed while it ran: the next run makes it again")
        made = made_by(self.run.folder, job.made_paths, self.keys.digests)
        self.keys.digests.save()
        with contextlib.suppress(OSError):  # for `run.sh` alone
            (self.run.folder / job.folder / "done").touch()
        cleared = {"message": ""} if running.where else {}
        self._change(job, Status.DONE, ended=round(time.time(), 3), key=self.keys[job.key], made=made, **cleared)
        self.when_done(stage)

    def _fail(self, job: Job, fault: Fault) -> None:
        self.faults[job.key] = fault
        self._change(job, Status.FAILED, ended=round(time.time(), 3), message=fault.message)

    def _missing(self, job: Job, stage: StageProgress) -> str:
        """The result that a successful stage must have left and has not; "" if it is there."""
        if job.kind == "shell":
            lost = [path for path in job.outputs if not (self.run.folder / path).exists()]
            return f"it left no {lost[0]}" if lost else ""
        return "" if stage.result else "it ended without a result"


def _read(path: Path) -> bytes:
    with open_regular(path) as handle:
        return handle.read()


def _last_attempt(folder: Path) -> int:
    """Where the last start begins in a stage's events."""
    try:
        before, mark, _ = _read(folder / events.METRICS).rpartition(b'{"event": "attempt"')
    except OSError:
        return 0
    return len(before) if mark else 0


def _begin(folder: Path) -> int:
    """Mark a new start in a stage's events, which keep those of earlier ones; where it begins. Raises: OSError."""
    path = folder / events.METRICS
    size: int = path.stat().st_size if path.exists() else 0
    events.append(path, "attempt")
    return size
