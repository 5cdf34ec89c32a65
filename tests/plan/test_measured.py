"""What runs measured changes later plans, is said, is kept by the lock where it decided, and never breaks a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdsl.plan import measured
from ftdsl.session import Session
from tests.conftest import ftc

RECIPE = """\
engine = llamafactory("0.9.5")
hardware { gpu = GPU, count = 1 }
BUDGET
sft {
  model    = hf("Qwen/Qwen3-8B")
  data     = file("rows.jsonl")
  duration = 1000 steps
  max_len  = 2048
  lora     { rank = 8 }
  batch    { global = 16 }
}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n' * 100, encoding="utf-8")
    write(tmp_path)
    return tmp_path


def write(place: Path, gpu: str = "h100(80GB)", budget: str = "") -> None:
    text = RECIPE.replace("GPU", gpu).replace("BUDGET", budget)
    (place / "r.ft").write_text(text, encoding="utf-8")


def plan(place: Path, *arguments: str) -> dict[str, Any]:
    done = ftc("plan", "r.ft", "--json", *arguments, cwd=place, XDG_STATE_HOME=str(place / "state"))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kept(place: Path, device: str, memory: float, step: float, *lines: str) -> None:
    """Measurements of the recipe's own stage, off by these factors, and other lines."""
    stage = plan(place)["stages"][0]["forecast"]
    sizes = {"hidden": 4096, "layers": 36, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 12288, "vocab": 151936}
    setup = {
        "architecture": {**sizes, "family": "qwen3", "qk_norm": True}, "method": "lora", "lora_rank": 8,
        "lora_targets": ["q", "k", "v", "o", "gate", "up", "down"], "autocast": True, "micro_batch": 4, "accumulate": 4,
        "card": "h100", "optimizer": "adamw_fused", "checkpointing": "full",
    }  # fmt: skip
    assert stage["calibrated_from_runs"] == 0
    one = measured.setup_from(setup)
    allocated, seconds = measured.expected(one, one, measured.Here())
    row = {"kind": "sft", "device": device, "memory_bytes": allocated * memory, "step_seconds": seconds * step,
           "setup": measured.setup_as_json(one)}  # fmt: skip
    file = place / "state" / "ftdsl" / "measured" / "llamafactory-0.9.5.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in (*[json.dumps(row)] * 8, *lines)), encoding="utf-8")


def test_a_card_is_known_by_its_runs(place: Path) -> None:
    before = plan(place)["stages"][0]["forecast"]
    kept(place, "h100", 1.2, 0.5)
    after = plan(place)["stages"][0]["forecast"]
    assert after["calibrated_from_runs"] == 8
    assert before["step_seconds"] * 0.45 < after["step_seconds"] < before["step_seconds"] * 0.65
    shown = ftc("plan", "r.ft", cwd=place, XDG_STATE_HOME=str(place / "state")).stdout
    assert "calibrated from 8 runs on h100 on this machine" in shown


@pytest.mark.parametrize(
    "line", ["{", "[]", "7", '{"kind": "sft"}', '{"setup": {"architecture": {"hidden": 1}}}', "\u0000"]
)
def test_a_broken_line_costs_itself_alone(line: str, place: Path) -> None:
    kept(place, "h100", 1.2, 1.0, line)
    assert plan(place)["stages"][0]["forecast"]["calibrated_from_runs"] == 8


def test_another_card_says_nothing_of_this_one(place: Path) -> None:
    kept(place, "a100", 1.2, 1.0)
    assert plan(place)["stages"][0]["forecast"]["calibrated_from_runs"] == 0


def test_what_decided_is_in_the_lock_and_counts_from_there(place: Path) -> None:
    kept(place, "h100", 1.2, 1.0)
    state = str(place / "state")
    assert ftc("compile", "r.ft", cwd=place, XDG_STATE_HOME=state).returncode == 0
    said = json.loads((place / "r.lock").read_text(encoding="utf-8"))["env"]["FTC_MEASURED_H100"]
    assert said.endswith(": 8 runs")
    first = (place / "build" / "r" / "10-sft" / "train.yaml").read_bytes()
    elsewhere = ftc("compile", "r.ft", "--frozen", cwd=place, XDG_STATE_HOME=str(place / "nothing"))
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert (place / "build" / "r" / "10-sft" / "train.yaml").read_bytes() == first
    assert ftc("compile", "r.ft", cwd=place, XDG_STATE_HOME=str(place / "nothing")).returncode == 0
    assert "FTC_MEASURED_H100" not in (place / "r.lock").read_text(encoding="utf-8"), "nothing is measured any more"
    assert ftc("compile", "r.ft", "--frozen", cwd=place, XDG_STATE_HOME=state).returncode == 0, "the lock counts"


def test_a_set_up_survives_its_way_through_json(place: Path) -> None:
    kept(place, "h100", 1.0, 1.0)
    session = Session(env={"XDG_STATE_HOME": str(place / "state")})
    one, *_ = measured.read(session, "llamafactory", "0.9.5")
    assert measured.setup_from(json.loads(json.dumps(measured.setup_as_json(one.setup)))) == one.setup


BUDGETS = [
    ("budget { time = 20min }", "more than the budget (20 min)", "duration = "),
    ("budget { cost = 1 USD }", "more than the budget (1.00 USD)", "duration = "),
    ("budget { disk = 300MB }", "more than the budget (0.3 GB)", "save { keep = 1 }"),
]


@pytest.mark.parametrize(("budget", "said", "way"), BUDGETS)
def test_a_budget_is_a_limit(budget: str, said: str, way: str, place: Path) -> None:
    """An error at the limit's line, in every verb; the plan is shown all the same."""
    write(place, budget=budget)
    for verb in ("check", "plan"):
        done = ftc(verb, "r.ft", cwd=place)
        assert done.returncode == 1
        shown = done.stdout + done.stderr
        assert said in shown and way in shown and "r.ft:3:" in shown
    assert "tokens/s per GPU" in done.stdout
    write(place, budget="budget { time = 1000h, cost = 9000 USD, disk = 1TB }")
    assert ftc("plan", "r.ft", cwd=place).returncode == 0
