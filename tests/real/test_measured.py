"""A run on the real engine measures itself; plans after it show that beside what was planned, and are corrected by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ftc_process

pytestmark = pytest.mark.real

RECIPE = """\
hardware { gpu = none }
template = qwen3_nothink
max_len  = 128

sft {
  model    = scratch(architecture = qwen3, hidden = 128, layers = 2, heads = 4, vocab = 1k)
  data     = file("rows.jsonl")
  duration = 6 steps
  full     { }
  optim    { lr = 1e-3 }
  batch    { micro = 4, accumulate = 1 }
  save     { every = never }
}
"""
ROWS = "".join(
    json.dumps({"instruction": f"count from {n}", "output": " ".join(str(n + at) for at in range(200))}) + "\n"
    for n in range(24)
)
Plan = Callable[..., tuple[int, str]]


@pytest.fixture
def plan(engine: Environment, tmp_path: Path) -> Plan:
    def run(*arguments: str) -> tuple[int, str]:
        env = {"XDG_STATE_HOME": str(tmp_path / "state"), "FTC_ENGINE_PYTHON": str(engine.python)}
        done = ftc_process("plan", "r.ft", *arguments, cwd=tmp_path, **env)
        return done.returncode, done.stdout

    return run


def test_a_run_measures_itself_and_corrects_plans(engine: Environment, plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    assert "not calibrated, no run on this machine" in plan()[1]
    before = _forecast(plan)

    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    done = ftc_process("run", "r.ft", "--engine-python", str(engine.python), cwd=tmp_path, **state)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kept for later plans" in done.stderr

    code, shown = plan("--exit-code")
    assert code == 0 and "plan: nothing to do" in shown
    found = re.search(r"took\s+(\S+) GiB and (\S+) s a step, measured; planned (\S+) GiB \(([+-]\d+)%\)", shown)
    assert found, shown
    assert 0.4 < float(found[1]) < 2 and abs(int(found[4])) < 20, "torch and the engine take most of it, and are known"
    assert "calibrated from 1 run on this machine" in shown

    (tmp_path / "r.ft").write_text(RECIPE.replace("1e-3", "2e-3"), encoding="utf-8")
    code, shown = plan("--exit-code")
    assert code == 4
    assert "because optim.lr 0.001 -> 0.002 (r.ft:10)" in shown
    after = _forecast(plan)
    assert after["calibrated_from_runs"] == 1 and after["step_seconds"] != before["step_seconds"]


def _forecast(plan: Plan) -> dict[str, Any]:
    stages = json.loads(plan("--json")[1])["stages"]
    found: dict[str, Any] = next(stage["forecast"] for stage in stages if stage["stage"] == "sft")
    return found


ANSWERS = """\
engine   = trl
hardware { gpu = none, memory = 64GB }
template = qwen3_nothink
max_len  = 512

grpo {
  model    = scratch(architecture = qwen3, hidden = 128, layers = 4, heads = 4, vocab = 1k)
  data     = file("rows.jsonl")
  rewards  = [length(100)]
  beta     = 0.1
  duration = 2 steps
  full     { }
  batch    { micro = 16, accumulate = 4 }
  generate { max_new_tokens = 256 }
  save     { every = never }
}
"""


def test_what_writing_answers_takes(trl: Environment, tmp_path: Path) -> None:
    """An untrained model ends no answer early: the plan's upper bounds are nearly reached in memory."""
    (tmp_path / "r.ft").write_text(ANSWERS, encoding="utf-8")
    rows = [{"instruction": f"count from {n}: " + " ".join(str(n + at) for at in range(80))} for n in range(16)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    python = ("--engine-python", f"trl={trl.python}")
    done = ftc_process("run", "r.ft", "--plain", *python, cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (
        line for line in (next(tmp_path.glob("runs/r/last/*-grpo")) / "metrics.jsonl").open() if '"measured"' in line
    )
    seen = json.loads(line)
    assert 16 * 256 < seen["longest"] <= 16 * 512, "rows that are learned from, not those that are written at once"
    shown = ftc_process("plan", "r.ft", cwd=tmp_path, **env, FTC_ENGINE_PYTHON=f"trl={trl.python}").stdout
    found = re.search(r"took\s+(\S+) GiB and (\S+) s a step, measured; planned (\S+) GiB \(([+-]\d+)%\)", shown)
    assert found, shown
    assert float(found[1]) > 0.9 and abs(int(found[4])) < 20
