"""A stage that ran out of memory: its message has ways out that fit by more than was missing, and it is kept for later plans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ftdsl.plan.measured import gpu_factors
from ftdsl.run.faults import Fault
from ftdsl.run.out_of_memory import CAUSE, explained
from ftdsl.session import Session
from tests.conftest import Outcome

RECIPE = """\
hardware { gpu = rtx4090, count = 1 }
sft {
  model    = hf("Qwen/Qwen3-8B")
  data     = file("rows.jsonl")
  duration = 100 steps
  max_len  = 2048
  lora     { rank = 8 }
  kernels  = none
  memory   { checkpointing = none }
  batch    { micro = 4, accumulate = 4 }
}
"""
ROWS = {"rows.jsonl": '{"instruction": "q", "input": "", "output": "a"}\n' * 10}


def test_ways_out_and_a_measurement(checked: Callable[..., Outcome], tmp_path: Path) -> None:
    plan = checked(RECIPE, ROWS).checked.plan
    assert plan is not None
    session = Session(env={"XDG_STATE_HOME": str(tmp_path)})
    fault = Fault("the card has not enough memory", (), "halve it", cause=CAUSE)
    other = Fault("a row is broken", (), "mend it")
    (_, helped), (_, untouched) = explained([("sft", fault), ("sft", other)], plan, session)
    assert "memory.checkpointing = full" in helped.help and helped.message == fault.message
    assert untouched is other
    versions = plan.recipe.versions
    kept = list((tmp_path / "ftdsl").rglob("*.jsonl"))
    assert len(kept) == 1 and '"outcome": "oom"' in kept[0].read_text(encoding="utf-8")
    assert gpu_factors(session, versions.engine, versions.of(), "rtx4090").memory >= 1.0
