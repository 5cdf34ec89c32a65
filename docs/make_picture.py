"""`python docs/make_picture.py RUN_FOLDER [SHARE]`: docs/quickstart.svg, drawn by ftc's own view from a real run's files.

SHARE (0 to 1) is how far the last training stage is shown: what was written until then, nothing else.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ftdsl.observe.live import LiveView
from ftdsl.observe.metrics import read_result
from ftdsl.observe.progress import RunProgress, StageProgress, Status, fold
from ftdsl.observe.table import summary
from ftdsl.runtime import events


def stages_of(run: Path) -> list[StageProgress]:
    """The stages as the run left them."""
    stages = fold(events.read(run / "events.jsonl"), run).stages
    for stage in stages:
        stage.result = read_result(run / stage.folder)
    return list(stages)


def play(stage: StageProgress, run: Path, share: float) -> None:
    """Take in what the stage had written when `share` of its steps were done."""
    for event in events.read(run / stage.folder / events.METRICS):
        if event["event"] == "step" and event["step"] > share * event["total_steps"]:
            return
        stage.apply(event, (stage.started or 0) + event.get("elapsed", 0))


def main(run: Path, share: float) -> None:
    """Two views under each other: in the middle of the run, and at its end."""
    console = Console(record=True, width=108, file=io.StringIO())
    stages = stages_of(run)
    shown = Path("runs/quickstart") / run.resolve().name
    begin = min(stage.started or 0 for stage in stages)
    at = next(n for n, stage in enumerate(stages) if stage.key == "sft")
    for stage in stages:
        if stage.result and "first_loss" in stage.result.metrics:
            play(stage, run, share if stage is stages[at] else 1.0)
    now = stages[at].last_event or begin
    for stage in stages[at:]:
        stage.status = Status.RUNNING if stage is stages[at] else Status.WAITING
    times = [(stage.started, stage.ended) for stage in stages]
    for stage in stages[at + 1 :]:
        stage.started = stage.ended = None
    console.print(Text("$ ftc run examples/quickstart.ft", "bold"))
    progress = RunProgress("quickstart", run.name, shown, tuple(stages), begin)
    console.print(LiveView()._drawn(progress, now))
    for stage, (started, ended) in zip(stages, times, strict=True):
        stage.status, stage.started, stage.ended = Status.DONE, started, ended
    lines = summary(progress)
    console.print()
    for line in lines[lines.index("") + 1 :]:
        console.print(Text(line))
    target = Path(__file__).parent / "quickstart.svg"
    svg = console.export_svg(title="ftc run", unique_id="ftc")
    target.write_text(re.sub(r"@font-face {.*?}\s*", "", svg, flags=re.S), encoding="utf-8")  # fetches nothing


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.6)
