"""What a person sees: progress as lines, the table, scores side by side; a terminal's live view draws without a fault."""

from __future__ import annotations

import io
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ftdsl.observe.metrics import Result, Sample, Tail
from ftdsl.observe.plain import Plain
from ftdsl.observe.progress import RunProgress, StageProgress, Status
from ftdsl.observe.table import summary
from ftdsl.observe.text import clock, duration, number, sparkline
from ftdsl.run.launchers.log import progress_line


def stage(key: str, status: Status, **more: object) -> StageProgress:
    found = StageProgress(key, f"10-{key}", "sft", "sft lora", status=status)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    path.write_text('{"event": "step", "step": 1}\n{"event": "st', encoding="utf-8")
    assert [event["step"] for event in tail.read()] == [1]
    with path.open("a", encoding="utf-8") as handle:
        handle.write('ep", "step": 2}\nnot json\n[1]\n')
    assert [event["step"] for event in tail.read()] == [2]


def test_events_become_progress() -> None:
    one = stage("a", Status.RUNNING, started=100.0)
    one.apply({"event": "start", "total_steps": 300}, 101.0)
    one.apply(
        {"event": "step", "step": 100, "total_steps": 300, "loss": math.nan, "lr": 1e-4, "remaining": 20.0}, 110.0
    )
    assert one.share == 1 / 3
    assert one.left(115.0) == 15.0
    assert one.loss != one.loss, "nan is kept, not read as 0"


GUARDED = {
    "event": "guard",
    "step": 13,
    "anomaly": "nan",
    "action": "rollback",
    "message": "loss is nan at step 13: back",
}


def test_what_a_guard_did_is_shown_while_it_runs_and_at_the_end() -> None:
    one = stage("a", Status.RUNNING, started=100.0, what="steps", step=12, total=24)
    one.apply(GUARDED, 101.0)
    out = io.StringIO()
    view = Plain(out)
    run = RunProgress("r", "1", Path("runs/r/1"), (one,), started=100.0)
    view.begin(run, 100.0)
    view.update(run, 120.0)
    assert "12/24 steps, 0:00 left, 1 rollback" in out.getvalue()
    one.status = Status.DONE
    assert summary(run)[-2:] == ["a: what its guard saw and did", "  loss is nan at step 13: back"]
    before = stage("b", Status.CACHED, result=Result("model", ledger=("a spike at step 3",)))
    assert summary(RunProgress("r", "2", Path("runs/r/2"), (before,)))[-1] == "  a spike at step 3"
    many = stage("c", Status.DONE, ledger=[GUARDED] * 20)
    assert (
        summary(RunProgress("r", "2", Path("runs/r/2"), (many,)))[-1] == "  and 12 more in runs/r/2/10-c/metrics.jsonl"
    )


def test_the_end_shows_before_and_after_side_by_side() -> None:
    asked = "<|im_start|>user\nWhat?<|im_end|>"
    results = [
        Result("metrics", "x", {"rouge_l": score, "loss": loss}, (Sample(asked, "It.", answer),))
        for score, loss, answer in ((10.0, 5.0, "No"), (99.0, 0.5, "It."))
    ]
    stages = [stage(key, Status.DONE, result=result) for key, result in zip(("before", "after"), results, strict=True)]
    text = "\n".join(summary(RunProgress("r", "1", Path("runs/r/1"), tuple(stages))))
    assert "metric   before  after" in text
    assert "rouge_l      10     99" in text
    assert "What?\n  wanted  It.\n  before  No\n  after   It." in text


def test_plain_lines_say_what_changes() -> None:
    out = io.StringIO()
    view = Plain(out)
    one = stage("a", Status.WAITING)
    run = RunProgress("r", "1", Path("runs/r/1"), (one,), started=100.0)
    view.begin(run, 100.0)
    one.status, one.started = Status.RUNNING, 100.0
    view.update(run, 101.0)
    one.apply({"event": "step", "step": 5, "total_steps": 10, "loss": 1.5, "lr": 1e-4, "remaining": 5.0}, 111.0)
    view.update(run, 112.0)
    one.status, one.ended, one.message = Status.FAILED, 113.0, "it broke"
    view.end(run, 113.0)
    assert out.getvalue().splitlines() == [
        "run runs/r/1: 1 stage",
        "10-a: sft lora",
        "10-a: 5/10 steps, loss 1.500, lr 1e-4, 0:04 left",
        "10-a: FAILED: it broke",
    ]


def test_numbers_and_times() -> None:
    assert [duration(s) for s in (0.02, 3.14, 48.2, 125, 3840)] == ["0 s", "3.1 s", "48 s", "2 min 05 s", "1 h 04 min"]
    assert [clock(s) for s in (48, 725, 3850)] == ["0:48", "12:05", "1:04:10"]
    assert [number(v) for v in (718000.0, 0.04664, 24.9183)] == ["718,000", "0.04664", "24.92"]
    assert sparkline([3, 2, 1], 3) == "█▅▁"


@pytest.mark.slow
def test_the_live_view_in_a_real_terminal(tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text(
        'shell one { run = "sleep 0.5" }\nshell two { after = one, run = "exit 1" }\n', encoding="utf-8"
    )
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave, stdin=slave, env=env)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    assert process.wait(timeout=30) == 1
    text = seen.decode("utf-8", "replace")
    assert "10-one" in text
    assert "✓" in text
    assert "✗" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["Running tokenizer: 40%", "[INFO|2026-11-30 18:58:50] model:144 >> no KV cache"], "Running tokenizer: 40%"),
        (["[2026-11-30 19:01:21,477] [WARNING] [real_accelerator.py:213:get_accelerator] Setting accelerator to cpu"], ""),
        (["Failed to load CPU gemm_4bit_forward from kernels-community: No module named 'kernels'. Please make"], ""),
        (["/x/torch/cuda.py:1: FutureWarning: pynvml is old", "  warnings.warn("], ""),
        (["W1130 19:01:21.1 7 torch/distributed/run.py:792] ****"], ""),
        (["Loading weights: 100%"], "Loading weights: 100%"),
    ],
)  # fmt: skip
def test_what_libraries_say_of_themselves_is_no_progress(lines: list[str], shown: str) -> None:
    assert progress_line(lines) == shown
