"""The model behind all views: a run and the progress of its stages, as a fold over the events that `ftdsl.runtime.events`
reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from ftdsl.observe.metrics import Result

CURVE = 4096
"""Maximum points of a curve, enough for a screen; metrics.jsonl keeps all."""
NEWEST = 20
"""Logged steps that the rate of tokens is taken over."""


class Status(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CACHED = "cached"
    FAILED = "failed"
    REFUSED = "refused"
    SKIPPED = "skipped"
    STOPPED = "stopped"

    @property
    def ok(self) -> bool:
        """Whether its result is available."""
        return self in (Status.DONE, Status.CACHED)


@dataclass
class StageProgress:
    """One stage. Times are seconds since the epoch; `message`: why it failed, was refused or skipped.

    `norms`, `rates`: gradient norms and learning rates as they were logged; `pace`: seconds a step, since `first_step`;
    `tokens`: (seconds since the start of training, tokens read so far) of the newest steps, with their padding; `memory`: bytes
    that a process of it holds, `memory_total`: of its GPU, 0 where it is none; `hourly`: USD an hour by the recipe's price or
    the catalogue's, 0 where no price is known;
    `remaining`: seconds, as of `last_event`; `log_line`: last line of its log, shown while there is no step; `notes`: shown at
    the end of the run; `cached_from`: the id of the run that produced its result; `ledger`: events `guard`
    in order: what was detected in a training, and what was done.
    """

    key: str
    folder: str = ""
    kind: str = ""
    title: str = ""
    where: str = ""
    status: Status = Status.WAITING
    started: float | None = None
    ended: float | None = None
    what: str = ""
    step: int = 0
    total: int | None = None
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    evals: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    reward: float | None = None
    rewards: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    pace: float | None = None
    tokens: list[tuple[float, float]] = field(default_factory=list)
    memory: int = 0
    memory_total: int = 0
    hourly: float = 0.0
    first_step: int = 0
    remaining: float | None = None
    last_event: float | None = None
    message: str = ""
    log_line: str = ""
    result: Result | None = None
    cached_from: str = ""
    notes: list[str] = field(default_factory=list)
    ledger: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """The part that is done, from 0 to 1; None if the total is unknown."""
        return min(1.0, self.step / self.total) if self.total else None

    def elapsed(self, now: float) -> float:
        """Seconds since its start, until its end."""
        return max(0.0, (self.ended or now) - self.started) if self.started is not None else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Over the newest steps; 0 where it is not known."""
        if len(self.tokens) < 2:
            return 0.0
        (start, before), (end, after) = self.tokens[0], self.tokens[-1]
        return (after - before) / (end - start) if end > start and after > before else 0.0

    def cost(self, now: float) -> float:
        """USD so far; 0 where no price is known."""
        return self.hourly * self.elapsed(now) / 3600

    def left(self, now: float) -> float | None:
        """Remaining seconds: the stage's own estimate less the time since, else from the share that is done."""
        if self.remaining is not None and self.last_event is not None:
            return max(0.0, self.remaining - (now - self.last_event))
        if self.share and self.last_event is not None and self.started is not None and self.step > 0:
            spent = self.last_event - self.started
            return max(0.0, spent / self.share - (now - self.started))
        return None

    def apply(self, event: Mapping[str, Any], now: float = 0.0) -> None:
        """Apply an event of its metrics.jsonl. now: the time of events without one."""
        if handler := _HANDLERS.get(str(event.get("event"))):
            self.last_event = event.get("time", now)
            handler(self, event)

    def changed(self, event: Mapping[str, Any]) -> None:
        """Apply an event `stage` of the run. A stage that starts is reset."""
        status = Status(event["status"]) if event.get("status") in set(Status) else self.status
        if status is Status.RUNNING:
            self.what, self.step, self.total, self.remaining, self.ended, self.result = "", 0, None, None, None, None
            self.message, self.notes, self.ledger = "", [], []
        self.status = status
        for name in ("folder", "started", "ended", "message", "cached_from"):
            if name in event:
                setattr(self, name, event[name])


def _on_start(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.total = event.get("total_steps")
    stage.what, stage.step, stage.remaining = "steps", event.get("step", 0), None
    stage.first_step = stage.step
    stage.tokens.clear()


def _on_step(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.what = "steps"
    stage.step = event.get("step", 0)
    stage.total = event.get("total_steps") or stage.total
    stage.remaining = event.get("remaining")
    stage.lr = event.get("lr", stage.lr)
    stage.grad_norm = event.get("grad_norm", stage.grad_norm)
    for series, name in ((stage.norms, "grad_norm"), (stage.rates, "lr")):
        if name in event:
            series.append(event[name])
            if len(series) > CURVE:
                series[:] = series[::2]
    if (reward := event.get("metrics", {}).get("reward")) is not None:
        stage.reward = reward
        stage.rewards.append(reward)
        if len(stage.rewards) > CURVE:
            stage.rewards[:] = stage.rewards[::2]
    stage.memory = event.get("memory_bytes", stage.memory)
    stage.memory_total = event.get("memory_total_bytes", stage.memory_total)
    if "tokens" in event and "elapsed" in event:
        stage.tokens = [*stage.tokens[-NEWEST:], (event["elapsed"], event["tokens"])]
    if event.get("elapsed") and stage.step > stage.first_step:
        stage.pace = event["elapsed"] / (stage.step - stage.first_step)
    if "loss" in event:
        stage.loss = event["loss"]
        _extend_curve(stage, event["loss"])


def _extend_curve(stage: StageProgress, loss: float) -> None:
    # After a resume the steps since the checkpoint repeat: the newer values replace the older.
    while stage.losses and stage.losses[-1][0] >= stage.step:
        stage.losses.pop()
    stage.losses.append((stage.step, loss))
    if len(stage.losses) > CURVE:
        stage.losses[:] = stage.losses[::2]


def _on_eval(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.evals.append((event.get("step", stage.step), event.get("metrics", {})))


def _on_progress(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.what = event.get("what", "")
    stage.step = int(event.get("done", 0))
    stage.total = int(event["total"]) if "total" in event else None
    stage.remaining = None


def _on_note(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.notes.append(event["message"])


def _on_guard(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.ledger.append(event)


_HANDLERS = {"start": _on_start, "step": _on_step, "eval": _on_eval, "progress": _on_progress, "note": _on_note,
             "guard": _on_guard}  # fmt: skip


@dataclass
class RunProgress:
    """A run: its name, id, folder, and stages in order. `stopping`: a stop was requested."""

    name: str
    id: str
    folder: Path
    stages: tuple[StageProgress, ...] = ()
    started: float = 0.0
    stopping: bool = False
    smoke: bool = False

    def stage(self, key: str) -> StageProgress:
        """The stage of that key. Raises: KeyError."""
        for stage in self.stages:
            if stage.key == key:
                return stage
        raise KeyError(key)

    def cost(self, now: float) -> float:
        """USD so far, of stages that ran in this run; 0 where no price is known."""
        return sum(stage.cost(now) for stage in self.stages if stage.status is not Status.CACHED)

    def having(self, *statuses: Status) -> list[StageProgress]:
        """The stages with one of these statuses, in order."""
        return [stage for stage in self.stages if stage.status in statuses]

    def apply(self, event: Mapping[str, Any]) -> None:
        """Apply an event of the run's events.jsonl."""
        kind = event.get("event")
        if kind == "run":
            self.name, self.id = event.get("name", self.name), event.get("id", self.id)
            self.smoke, self.started, self.stopping = event.get("smoke", False), event.get("time", 0.0), False
            stages = event.get("stages")
            self.stages = tuple(map(_described, filter(_is_table, stages if isinstance(stages, list) else ())))
        elif kind == "stage":
            for stage in self.stages:
                if stage.key == event["stage"]:
                    stage.changed(event)
        elif kind == "stop":
            self.stopping = True


def _is_table(stage: object) -> bool:
    return isinstance(stage, dict)


def _described(stage: Mapping[str, Any]) -> StageProgress:
    key, folder, kind, title, where = (str(stage.get(name, "")) for name in ("key", "folder", "kind", "title", "where"))
    hourly = stage.get("hourly")
    if isinstance(hourly, bool) or not isinstance(hourly, int | float) or not 0 < hourly < 1e9:
        hourly = 0.0
    return StageProgress(key, folder, kind, title, where, hourly=float(hourly))


def fold(events: Iterable[Mapping[str, Any]], folder: Path) -> RunProgress:
    """The state of a run after its events. folder: of the run."""
    progress = RunProgress(folder.parent.name, folder.name, folder)
    for event in events:
        progress.apply(event)
    return progress


class View(Protocol):
    """Shows a run to the user. Called from one thread; `now`: seconds since the epoch."""

    def note(self, text: str) -> None:
        """Show a message."""

    def begin(self, run: RunProgress, now: float) -> None:
        """The run starts or resumes."""

    def update(self, run: RunProgress, now: float) -> None:
        """Something may have changed; called about ten times a second."""

    def end(self, run: RunProgress, now: float) -> None:
        """The run has ended. Called once, also after an interruption."""


class NoView:
    """Shows nothing: for studies, tests and editors that use the outcome."""

    def note(self, text: str) -> None: ...

    def begin(self, run: RunProgress, now: float) -> None: ...

    def update(self, run: RunProgress, now: float) -> None: ...

    def end(self, run: RunProgress, now: float) -> None: ...
