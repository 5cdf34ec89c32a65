"""A run as plain lines, for logs, pipes and CI."""

from __future__ import annotations

from typing import TextIO

from ftdsl.observe import table
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.observe.text import clock, dollars, duration, rate, steady
from ftdsl.printable import printable

EVERY = 10.0
"""Seconds between progress lines of a running stage."""


class Plain:
    """One line per change, and one every few seconds while a stage runs."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._seen: dict[str, Status] = {}
        self._shown: dict[str, float] = {}

    def note(self, text: str) -> None:
        print(printable(text), file=self.out, flush=True)

    def begin(self, run: RunProgress, now: float) -> None:
        self.note(f"run {run.folder.as_posix()}: {len(run.stages)} stage{'s' * (len(run.stages) != 1)}")
        self.update(run, now)

    def update(self, run: RunProgress, now: float) -> None:
        for stage in run.stages:
            if self._seen.get(stage.key) is not stage.status:
                self._seen[stage.key] = stage.status
                self._shown[stage.key] = now
                if stage.status is not Status.WAITING:
                    self.note(f"{stage.folder}: {_changed(stage, now)}")
            elif stage.status is Status.RUNNING and now - self._shown[stage.key] >= EVERY:
                self._shown[stage.key] = now
                self.note(f"{stage.folder}: {progress_text(stage, now)}")

    def end(self, run: RunProgress, now: float) -> None:
        self.update(run, now)


class PlainStudy(Plain):
    """A study as lines: what its driver notes."""

    def begin(self, run: RunProgress, now: float) -> None: ...

    def update(self, run: RunProgress, now: float) -> None: ...


def _changed(stage: StageProgress, now: float) -> str:
    if stage.status is Status.RUNNING:
        return stage.title
    text = table.MARKS[stage.status]
    if stage.status is Status.CACHED and stage.cached_from:
        text += f" (in {stage.cached_from})"
    took = f" in {duration(stage.elapsed(now))}" if stage.status is Status.DONE else ""
    result = table.result_text(stage)
    return f"{text}{took}" + (f": {result}" if result else "")


def progress_text(stage: StageProgress, now: float) -> str:
    """`120/300 steps, loss 1.234, lr 2e-3, 0:12 left`."""
    parts = []
    if stage.what:
        parts.append(f"{stage.step}{f'/{stage.total}' if stage.total else ''} {stage.what}")
    if stage.reward is not None and stage.what == "steps":
        parts.append(f"reward {steady(stage.reward)}")
    elif stage.loss is not None and stage.what == "steps":
        parts.append(f"loss {steady(stage.loss)}")
    if stage.lr is not None and stage.what == "steps":
        parts.append(f"lr {rate(stage.lr)}")
    if stage.tokens_per_second >= 1 and stage.what == "steps":
        parts.append(f"{stage.tokens_per_second:,.0f} tokens/s")
    left = stage.left(now)
    if left is not None:
        parts.append(f"{clock(left)} left")
    if stage.cost(now) >= 0.01:
        parts.append(f"{dollars(stage.cost(now))} so far")
    if back := sum(entry.get("action") == "rollback" for entry in stage.ledger):
        parts.append(f"{back} rollback{'s' * (back != 1)}")
    return ", ".join(parts) or stage.message or stage.log_line[:100] or table.before_output(stage)
