"""An optimizer that is not DeepSpeed's, offloaded to main memory, is the one that was asked for, and trains as on the device."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ftc_process
from tests.real.trained import events_of, write_rows

pytestmark = pytest.mark.real

RECIPE = """
hardware { gpu = none, count = 2 }
template = qwen3_nothink
max_len = 64
precision = fp32
duration = 4 steps
batch { global = 8, micro = 2 }
track { every = 1 steps }
save { every = never }
data = file("rows.jsonl")
callbacks = ["shims:States"]
optim { name = adamw_8bit, lr = 1e-3 }
let tiny = scratch(architecture = qwen3, hidden = 64, layers = 2, heads = 2, vocab = 600)
sft plain { model = tiny, full {}, parallel { strategy = zero3 } }
sft moved {
  model = tiny, full {}, parallel { strategy = zero3, offload = [optimizer] }
  deepspeed { zero_force_ds_cpu_optimizer = false }
}
"""


def test_8_bit_adam_in_main_memory(forking: Environment, tmp_path: Path) -> None:
    write_rows(tmp_path)
    shutil.copy(Path(__file__).with_name("shims.py"), tmp_path)
    (tmp_path / "r.ft").write_text(RECIPE, encoding="utf-8")
    done = ftc_process("run", "r.ft", "--plain", "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    plain, moved = (next(tmp_path.glob(f"runs/r/last/*-{name}")) for name in ("plain", "moved"))
    losses = [[event["loss"] for event in events_of(stage) if event["event"] == "step"] for stage in (plain, moved)]
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    states = [json.loads((stage / "states.json").read_text(encoding="utf-8")) for stage in (plain, moved)]
    assert states[0] == states[1] and states[0]["uint8"] >= 2, "moments in 8 bits"
