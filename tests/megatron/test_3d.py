"""3D parallelism is sound: megatron-core's model, built from the numbers that a recipe compiles to, trains on eight ranks as in
one process. `make test-megatron` installs megatron-core; nothing here needs a GPU (on_cpu.py).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, ftc

pytestmark = pytest.mark.megatron

RECIPE = """
hardware {{ gpu = h100(80GB), count = 8 }}
template = qwen3_nothink
max_len = 64
precision = fp32
duration = 4 steps
batch {{ global = 8, micro = {micro} }}
optim {{ lr = 1e-2 }}
let tiny = scratch(architecture = llama, hidden = 32, layers = 4, heads = 4, vocab = 320)
sft s {{ model = tiny, data = file("rows.jsonl"), full {{}}, parallel {{ strategy = megatron, {layout} }} }}
"""
LAYOUTS = {
    "3d": (2, "tensor = 2, pipeline = 2"),
    "whole sequences": (2, "tensor = 2, pipeline = 2, sequence = false"),
    "deep": (1, "tensor = 2, pipeline = 4"),
}
SAME = 1e-5
"""Relative, for losses and gradient norms. Seen: 1e-7 and 3e-6 after four steps of AdamW at a rate of 0.01."""


def compiled(place: Path, micro: int, layout: str) -> tuple[Path, dict[str, Any]]:
    """The stage's folder, and what its document says, as a flat mapping."""
    rows = json.dumps({"instruction": "q", "output": "a"})
    (place / "rows.jsonl").write_text(f"{rows}\n" * 64, encoding="utf-8")
    (place / "r.ft").write_text(RECIPE.format(micro=micro, layout=layout), encoding="utf-8")
    done = ftc("compile", "r.ft", cwd=place)
    assert done.returncode == 0, done.stderr
    folder = place / "build" / "r" / "10-s"
    lines = [line.partition(": ") for line in (folder / "train.yaml").read_text(encoding="utf-8").splitlines()]
    return folder, {key: value for key, colon, value in lines if colon}


def trained(folder: Path, out: Path, ranks: int, *more: str) -> list[list[dict[str, float]]]:
    """By rank: what it saw at each step."""
    python = ROOT / ".clusters" / "megatron" / "bin" / "python"
    assert python.exists(), "make test-megatron installs megatron-core"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    scratch = folder.parent / "05-scratch" / "scratch.json"
    argv = [
        str(python),
        *launch,
        str(Path(__file__).with_name("train.py")),
        str(folder / "train.yaml"),
        str(scratch),
        str(out),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*argv, *more], env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    files = [out.with_suffix(f".{rank}.jsonl") for rank in range(ranks)]
    return [[json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files]


@pytest.mark.parametrize("name", LAYOUTS)
def test_eight_ranks_train_as_one_process(name: str, tmp_path: Path) -> None:
    micro, layout = LAYOUTS[name]
    folder, document = compiled(tmp_path, micro, layout)
    assert "--nproc_per_node 8" in (folder / "launch.sh").read_text(encoding="utf-8")
    tensor, pipeline = int(document["tensor_model_parallel_size"]), int(document["pipeline_model_parallel_size"])
    assert document["sequence_parallel"] == ("false" if name == "whole sequences" else "true")
    assert document["use_distributed_optimizer"] == ("true" if tensor * pipeline < 8 else "false")
    (alone,) = trained(folder, tmp_path / "alone", 1, "--alone")
    ranks = trained(folder, tmp_path / "split", 8)
    assert len(alone) == 4 and alone[-1]["loss"] < alone[0]["loss"]
    whole = alone[0]["parameters"]
    for rank in ranks:
        assert rank[0]["parameters"] < 1.5 * whole / (tensor * pipeline), "each rank holds its part"
        for step, expected in zip(rank, alone, strict=True):
            assert step["loss"] == pytest.approx(expected["loss"], rel=SAME)
            assert step["grad_norm"] == pytest.approx(expected["grad_norm"], rel=SAME)
