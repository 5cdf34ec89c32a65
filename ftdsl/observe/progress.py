"""The one model behind every view: a run, its stages, and how far each has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from ftdsl.engines.jobs import Job
from ftdsl.observe.metrics import Result, count, number

# Enough for the shape of a curve on a screen; the whole curve stays in metrics.jsonl.
CURVE = 4096


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
        """Its result is there."""
        return self in (Status.DONE, Status.CACHED)


@dataclass
class StageProgress:
    """One stage. Times are seconds since the epoch; `message` says why it failed, was refused or skipped.

    `said` is the last line of its log, shown while there is no step to show; `remaining` holds since `heard`;
    `notes` are sentences it wants to have said at the end.
    """

    job: Job
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
    remaining: float | None = None
    heard: float | None = None
    message: str = ""
    said: str = ""
    result: Result | None = None
    cached_from: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.job.key

    @property
    def folder(self) -> str:
        return self.job.folder

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None when the end is not known."""
        return min(1.0, self.step / self.total) if self.total else None

    def elapsed(self, now: float) -> float:
        """Seconds it ran, or runs."""
        return max(0.0, (self.ended or now) - self.started) if self.started is not None else 0.0

    def left(self, now: float) -> float | None:
        """Seconds to go: what the stage said, less the time since; else from the share that is done."""
        if self.remaining is not None and self.heard is not None:
            return max(0.0, self.remaining - (now - self.heard))
        if self.share and self.heard is not None and self.started is not None and self.step > 0:
            spent = self.heard - self.started
            return max(0.0, spent / self.share - (now - self.started))
        return None

    def apply(self, event: Mapping[str, Any], now: float) -> None:
        """Take in an event of metrics.jsonl."""
        handle = _HANDLERS.get(str(event.get("event")))
        if handle:
            self.heard = now
            handle(self, event)


def _on_start(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.total = count(event.get("total_steps"))
    stage.what, stage.step, stage.remaining = "steps", 0, None


def _on_step(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.what = "steps"
    stage.step = count(event.get("step")) or 0
    stage.total = count(event.get("total_steps")) or stage.total
    stage.remaining = number(event.get("remaining"))
    stage.lr = _newer(event, "lr", stage.lr)
    stage.grad_norm = _newer(event, "grad_norm", stage.grad_norm)
    loss = number(event.get("loss"))
    if loss is not None:
        stage.loss = loss
        _extend_curve(stage, loss)


def _extend_curve(stage: StageProgress, loss: float) -> None:
    # After a resume the steps since the checkpoint come again: the newer values count.
    while stage.losses and stage.losses[-1][0] >= stage.step:
        stage.losses.pop()
    stage.losses.append((stage.step, loss))
    if len(stage.losses) > CURVE:
        stage.losses[:] = stage.losses[::2]


def _on_eval(stage: StageProgress, event: Mapping[str, Any]) -> None:
    metrics = event.get("metrics")
    if isinstance(metrics, dict):
        found = {str(name): value for name, raw in metrics.items() if (value := number(raw)) is not None}
        stage.evals.append((count(event.get("step")) or stage.step, found))


def _on_progress(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.what = str(event.get("what") or "")
    stage.step = count(event.get("done")) or 0
    stage.total = count(event.get("total"))
    stage.remaining = None


def _on_note(stage: StageProgress, event: Mapping[str, Any]) -> None:
    stage.notes.append(str(event.get("message") or ""))


def _newer(event: Mapping[str, Any], name: str, old: float | None) -> float | None:
    found = number(event.get(name))
    return old if found is None else found


_HANDLERS = {"start": _on_start, "step": _on_step, "eval": _on_eval, "progress": _on_progress, "note": _on_note}


@dataclass
class RunProgress:
    """A run: its name and id, where it lies, and its stages in order. `stopping` after the first Ctrl-C."""

    name: str
    id: str
    folder: Path
    stages: tuple[StageProgress, ...]
    started: float = 0.0
    stopping: bool = False

    def stage(self, key: str) -> StageProgress:
        """The stage of that key. Raises: KeyError."""
        for stage in self.stages:
            if stage.key == key:
                return stage
        raise KeyError(key)

    def having(self, *statuses: Status) -> list[StageProgress]:
        """The stages of these statuses, in order."""
        return [stage for stage in self.stages if stage.status in statuses]


class View(Protocol):
    """Shows a run to a person. Called from one thread; `now` is seconds since the epoch."""

    def note(self, text: str) -> None:
        """Say a sentence."""

    def begin(self, run: RunProgress, now: float) -> None:
        """The run starts or goes on."""

    def update(self, run: RunProgress, now: float) -> None:
        """Something may have changed; called about ten times a second."""

    def end(self, run: RunProgress, now: float) -> None:
        """Nothing runs any more. Called once, also after an interruption."""
