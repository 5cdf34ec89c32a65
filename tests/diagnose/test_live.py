"""Judges while a run goes on: each finding is noted once, a healthy or a smoke run is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdsl.diagnose.live import JudgingView
from ftdsl.observe.live import dashboard
from ftdsl.observe.progress import NoView, RunProgress, StageProgress, Status
from ftdsl.runtime import events
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
    assert dashboard(stage) == ""
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
    assert dashboard(stage) == "-0.1 in 10  held out 1.100 █▁  norm 30!  rate 4e-4 ▁▂▃▄▅▆▇█  0.5 s a step"
