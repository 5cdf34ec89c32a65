"""A run in a terminal: one line per stage, progress bars, loss curves."""

from __future__ import annotations

import sys
from statistics import median

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ftdsl.observe import table
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.observe.text import clock, dollars, duration, gib, rate, sparkline, steady
from ftdsl.printable import one_line, printable

_MARKS = {
    Status.DONE: ("✓", "green"), Status.CACHED: ("✓", "dim green"), Status.FAILED: ("✗", "bold red"),
    Status.REFUSED: ("✗", "bold yellow"), Status.SKIPPED: ("-", "dim"), Status.STOPPED: ("■", "yellow"),
    Status.WAITING: ("·", "dim"),
}  # fmt: skip


DETAILED, LINES = 4, 2
"""Stages that train at once that have lines of details, and how many each: more would scroll away what is above."""
ALERT = 5.0
"""Times the usual gradient norm at which it is marked."""
FULL = 0.95
"""Share of a GPU's memory above which it is marked."""


def dashboard(stage: StageProgress) -> list[str]:
    """`-0.05 in 10`, `held out 1.301 ▇▅▃`, `norm 0.87`, `rate 3e-5 ▁▃▇▅`, `0.08 s a step`, `5,120 tokens/s`, `62.1 of 79.2 GiB`:
    what a training looks like, beside its loss.
    """
    parts = []
    losses = [loss for _, loss in stage.losses]
    if len(losses) > 20:
        change = median(losses[-10:]) - median(losses[-20:-10])
        parts.append(f"{change:+.3g} in 10")
    held_out = [metrics["loss"] for _, metrics in stage.evals if "loss" in metrics]
    if held_out:
        parts.append(f"held out {steady(held_out[-1])} {sparkline(held_out, 8)}".rstrip())
    if stage.norms:
        usual = median(stage.norms[-51:])
        mark = "!" if len(stage.norms) > 20 and not stage.norms[-1] <= ALERT * usual else ""
        parts.append(f"norm {stage.norms[-1]:.3g}{mark}")
    if len(stage.rates) > 1:
        parts.append(f"rate {rate(stage.rates[-1])} {sparkline(stage.rates, 8)}")
    if stage.pace:
        parts.append(f"{stage.pace:.3g} s a step")
    if speed := stage.tokens_per_second:
        parts.append(f"{speed:,.0f} tokens/s" if speed >= 10 else f"{speed:.2g} tokens/s")
    if stage.memory:
        parts.append(memory_text(stage))
    return parts


def wrapped(parts: list[str], width: int, most: int) -> list[str]:
    """Parts on at most `most` lines of `width` cells; what does not fit is left out, whole."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + 2 + cell_len(part) <= width:
            lines[-1] += f"  {part}"
        elif len(lines) < most and cell_len(part) <= width:
            lines.append(part)
    return lines


def memory_text(stage: StageProgress) -> str:
    """`62.1 of 79.2 GiB` of the GPU, with `!` where next to nothing is left; `1.2 GiB` of main memory."""
    if not stage.memory_total:
        return gib(stage.memory)
    mark = "!" if stage.memory > FULL * stage.memory_total else ""
    return f"{stage.memory / 2**30:.1f} of {gib(stage.memory_total)}{mark}"


class LiveView:
    """Redraws about ten times a second; notes appear above."""

    def __init__(self) -> None:
        self.console = Console(
            file=getattr(sys.stderr, "raw", sys.stderr), highlight=False
        )  # the raw stream: rich moves the cursor
        self._live = Live(console=self.console, auto_refresh=False, transient=False)
        self._spinners: dict[str, Spinner] = {}

    def note(self, text: str) -> None:
        self.console.print(Text(printable(text)))

    def begin(self, run: RunProgress, now: float) -> None:
        self._live.start()
        self.update(run, now)

    def update(self, run: RunProgress, now: float) -> None:
        self._live.update(self._drawn(run, now), refresh=True)

    def end(self, run: RunProgress, now: float) -> None:
        self.update(run, now)
        self._live.stop()

    def _drawn(self, run: RunProgress, now: float) -> RenderableType:
        stopping = "  stopping: waiting for the stages to end (Ctrl-C again kills them)" if run.stopping else ""
        head = Text.assemble(
            (one_line(run.name), "bold"),
            f"  {one_line(run.folder.as_posix())}  ",
            (clock(now - run.started), "dim"),
            (f"  {dollars(run.cost(now))} so far" if run.cost(now) else "", "dim"),
            (stopping, "yellow"),
        )
        grid = Table.grid(padding=(0, 2))
        for stage in run.stages:
            grid.add_row(self._mark(stage), one_line(stage.folder), *self._cells(stage, now))
        return Group(head, grid, *self._details(run))

    def _details(self, run: RunProgress) -> list[RenderableType]:
        """Lines about the stages that train."""
        training = [(stage, parts) for stage in run.having(Status.RUNNING) if (parts := dashboard(stage))][:DETAILED]
        lines = []
        for stage, parts in training:
            named = [one_line(stage.folder), *parts] if len(training) > 1 else parts
            lines += wrapped(named, self.console.width - 2, LINES)
        return [Text(f"  {line}", "dim", no_wrap=True, overflow="ellipsis") for line in lines]

    def _mark(self, stage: StageProgress) -> RenderableType:
        if stage.status is Status.RUNNING:
            return self._spinners.setdefault(stage.key, Spinner("dots", style="cyan"))
        mark, style = _MARKS[stage.status]
        return Text(mark, style)

    def _cells(self, stage: StageProgress, now: float) -> tuple[RenderableType, ...]:
        if stage.status is Status.RUNNING:
            return self._running(stage, now)
        took = duration(stage.elapsed(now)) if stage.started and stage.ended else ""
        if stage.status is Status.CACHED:
            took = "done before"
        result = table.result_text(stage)
        style = "" if stage.status.ok else "dim" if stage.status in (Status.SKIPPED, Status.WAITING) else "yellow"
        shown = one_line(result or (stage.title if stage.status is Status.WAITING else ""))
        text = Text(shown, style, overflow="ellipsis")
        if len(stage.losses) > 1 and stage.status.ok:
            text.append(f"  {sparkline([loss for _, loss in stage.losses], 16)}", "cyan")
        return Text(took, "dim"), text

    def _running(self, stage: StageProgress, now: float) -> tuple[RenderableType, ...]:
        bar = ProgressBar(total=stage.total, completed=stage.step, width=20, pulse=stage.total is None)
        text = Text(overflow="ellipsis")
        if stage.total:
            text.append(f"{stage.step}/{stage.total} {one_line(stage.what)}  ")
        if stage.reward is not None and stage.what == "steps":
            text.append(f"reward {steady(stage.reward)} ")
            text.append(sparkline(stage.rewards, 16), "cyan")
            text.append("  ")
        elif stage.loss is not None and stage.what == "steps":
            text.append(f"loss {steady(stage.loss)} ")
            text.append(sparkline([loss for _, loss in stage.losses], 16), "cyan")
            text.append("  ")
        if stage.ledger:
            text.append(f"{one_line(stage.ledger[-1]['message'][:60])}  ", "yellow")
        left = stage.left(now)
        if left is not None:
            text.append(f"{clock(left)} left", "dim")
        if not text.plain.strip():
            text.append(one_line(stage.log_line[:80]) or table.before_output(stage), "dim")
        return bar, text
