"""Judges while a run goes on: each finding is noted once, a healthy or a smoke run is left alone."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ftdsl.diagnose.live import JudgingView
from ftdsl.language.resolve.resolve import Options
from ftdsl.observe.live import LiveView, dashboard, wrapped
from ftdsl.observe.plain import progress_text
from ftdsl.observe.progress import NoView, RunProgress, StageProgress, Status
from ftdsl.pipeline import check
from ftdsl.run.prepare import hourly_prices
from ftdsl.runtime import events
from ftdsl.session import Session
from tests.conftest import ALPACA
from tests.diagnose.runs import kept, metrics

HEALTHY = [run for run in kept() if run.startswith("healthy") and not run.startswith("healthy_small_batch")]


class Notes(NoView):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def watched(run: str, folder: Path, pieces: int = 12, *, smoke: bool = False) -> list[str]:
    """What is noted while a kept run is logged piece by piece."""
    lines = metrics(kept()[run]).splitlines(keepends=True)
    stage = StageProgress("sft", "20-sft", "sft", "", status=Status.RUNNING)
    progress = RunProgress("r", "1", folder, (stage,), smoke=smoke)
    (folder / "20-sft").mkdir(parents=True)
    notes = Notes()
    view = JudgingView(notes)
    view.begin(progress, 0.0)
    for piece in range(pieces):
        with (folder / "20-sft" / events.METRICS).open("a", encoding="utf-8") as log:
            log.writelines(lines[piece * len(lines) // pieces : (piece + 1) * len(lines) // pieces])
        view.update(progress, 1000.0 * (piece + 1))
    stage.status = Status.DONE
    view.end(progress, 1e6)
    return notes.texts


@pytest.mark.parametrize(("run", "code"), [("overfit/1.json", "FD204"), ("nan/2.json", "FD103"), ("spike_rows/3.json", "FD301"),
                                           ("lr_high/1.json", "FD105"), ("masked/3.json", "FD101")])  # fmt: skip
def test_a_finding_is_noted_once(run: str, code: str, tmp_path: Path) -> None:
    (text,) = watched(run, tmp_path)
    assert text.startswith("warning: 20-sft: ") and f"[{code}]" in text


@pytest.mark.parametrize("run", HEALTHY)
def test_a_healthy_run_is_left_alone(run: str, tmp_path: Path) -> None:
    assert watched(run, tmp_path) == []


def test_a_smoke_run_is_left_alone(tmp_path: Path) -> None:
    assert watched("nan/1.json", tmp_path, smoke=True) == []


def test_the_dashboard_of_a_stage() -> None:
    stage = StageProgress("sft", status=Status.RUNNING)
    assert dashboard(stage) == []
    stage.apply({"event": "start", "total_steps": 100, "step": 0}, 1.0)
    for step in range(1, 41):
        norm = 30.0 if step == 40 else 1.0
        stage.apply(
            {
                "event": "step",
                "step": step,
                "loss": 2.0 - step / 100,
                "lr": step * 1e-5,
                "grad_norm": norm,
                "elapsed": step / 2,
            }
        )
        if step % 20 == 0:
            stage.apply({"event": "eval", "step": step, "metrics": {"loss": 1.5 - step / 100}})
    assert dashboard(stage) == ["-0.1 in 10", "held out 1.100 █▁", "norm 30!", "rate 4e-4 ▁▂▃▄▅▆▇█", "0.5 s a step"]


def training(**more: Any) -> StageProgress:
    stage = StageProgress("sft", "20-sft", status=Status.RUNNING, started=0.0, hourly=12.0)
    for step in range(1, 41):
        stage.apply({"event": "step", "step": step, "total_steps": 100, "loss": 2.0 - step / 100, "grad_norm": 1.0, "lr": 1e-4,
                     "elapsed": 0.5 * step, "tokens": 4096 * step, **more}, 0.5 * step)  # fmt: skip
    return stage


def test_memory_tokens_and_cost() -> None:
    stage = training(memory_bytes=62 << 30, memory_total_bytes=80 << 30)
    assert dashboard(stage)[-2:] == ["8,192 tokens/s", "62.0 of 80.0 GiB"]
    full = training(memory_bytes=79 << 30, memory_total_bytes=80 << 30)
    assert dashboard(full)[-1] == "79.0 of 80.0 GiB!"
    assert dashboard(training(memory_bytes=3 << 30))[-1] == "3.0 GiB"
    assert stage.cost(1800.0) == 6.0
    run = RunProgress(
        "a", "b", Path("runs/a/b"), (stage, StageProgress("old", status=Status.CACHED, started=0.0, hourly=5.0))
    )
    assert run.cost(1800.0) == 6.0
    assert "8,192 tokens/s" in progress_text(stage, 1800.0)
    assert "6.00 USD so far" in progress_text(stage, 1800.0)


def test_without_a_price_nothing_is_said_of_cost() -> None:
    stage = training()
    stage.hourly = 0.0
    assert "USD" not in progress_text(stage, 1800.0)
    event = {
        "event": "run",
        "stages": [{"key": "a", "hourly": "x"}, {"key": "b", "hourly": True}, {"key": "c", "hourly": 2}],
    }
    run = RunProgress("a", "b", Path())
    run.apply(event)
    assert [stage.hourly for stage in run.stages] == [0.0, 0.0, 2.0]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    """Parts are left out whole; nothing is wider than the terminal, and there are few lines."""
    view = LiveView()
    view.console = Console(width=width, height=30, file=StringIO(), force_terminal=True)
    run = RunProgress(
        "a", "b", Path("runs/a/b"), (training(memory_bytes=62 << 30, memory_total_bytes=80 << 30),), started=0.0
    )
    with view.console.capture() as capture:
        view.console.print(view._drawn(run, 20.0))
    lines = [Text.from_ansi(line).plain for line in capture.get().splitlines()]
    assert max(map(cell_len, lines)) <= width
    assert len(wrapped(dashboard(run.stages[0]), width - 2, 2)) <= 2
    if width >= 200:
        assert any("62.0 of 80.0 GiB" in line for line in lines)


PRICED = """\
engine = llamafactory("0.9.5")
hardware { gpu = h100(80GB), count = 4, price = 2.5 USD }
template = qwen3
sft { model = hf("Qwen/Qwen3-8B"), data = file("rows.jsonl"), duration = 100 steps, lora {} }
"""


def test_a_price_becomes_an_hourly_cost(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (tmp_path / "r.ft").write_text(PRICED, encoding="utf-8")
    plan = check(tmp_path / "r.ft", Options(), Session()).plan
    assert plan is not None
    assert hourly_prices(plan) == {"sft": 10.0}
