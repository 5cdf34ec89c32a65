"""QLoRA on TRL as it is compiled for a GPU: TRL's and PEFT's own classes take the documents, and read what the recipe says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftdsl.engines.trl.training import STAGES
from ftdsl.run.environments import Environment
from tests.conftest import Outcome

pytestmark = pytest.mark.real

ROWS = {"rows.jsonl": '{"instruction": "q", "output": "a b", "answer": "a"}\n' * 64,
        "pairs.jsonl": '{"instruction": "q", "chosen": "a", "rejected": "b"}\n' * 64,
        "liked.jsonl": '{"instruction": "q", "output": "a", "label": true}\n' * 64,
        "texts.jsonl": '{"text": "a b c"}\n' * 64}  # fmt: skip
DATA = {"dpo": "pairs", "reward": "pairs", "kto": "liked", "pretrain": "texts"}
MORE = {"grpo": 'rewards = [exact("answer")], generations = 4, generate { max_new_tokens = 64 },',
        "distill": 'teacher = hf("Qwen/Qwen3-8B"), generate { max_new_tokens = 64 },'}  # fmt: skip
PRECISIONS = {
    "nf4": ("quantize { bits = 4 }", (4, "nf4", True)),
    "fp4": ("quantize { bits = 4, scheme = fp4, double = false }", (4, "fp4", False)),
    "int8": ("quantize { bits = 8, scheme = int8 }", (8, "fp4", False)),
}
"""Block -> (bits, kind, double), as TRL passes them to bitsandbytes: of 8 bits its defaults."""


def recipe(kind: str, block: str) -> str:
    rows = DATA.get(kind, "rows")
    return f"""
hardware {{ gpu = h100(80GB), count = 1 }}
engine = trl
duration = 4 steps
max_len = 256
batch {{ micro = 4, accumulate = 2 }}
{kind} s {{
  model = hf("Qwen/Qwen3-0.6B"), data = file("{rows}.jsonl"), {MORE.get(kind, "")} lora {{ rank = 8, targets = [q_proj, v_proj] }}
  {block}
  optim {{ lr = 2e-4 }}
}}
"""


def test_the_engine_reads_what_the_recipe_says(
    forking_trl: Environment, tmp_path: Path, checked: Callable[..., Outcome]
) -> None:
    documents: dict[str, Any] = {}
    for kind, config in STAGES.items():
        for scheme, (block, _) in PRECISIONS.items():
            outcome = checked(recipe(kind, block), ROWS)
            assert outcome.codes == [], (kind, scheme, [one.message for one in outcome.found])
            job = next(job for job in outcome.checked.jobs if job.key == "s")
            data = next(document.data for document in job.documents if document.path.endswith("train.yaml"))
            documents[f"{kind} {scheme}"] = (data, config)
    (tmp_path / "documents.json").write_text(json.dumps(documents), encoding="utf-8")
    probe = Path(__file__).with_name("qlora_probe.py")
    command = [str(forking_trl.python), str(probe), "documents.json", "read.json"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "read.json").read_text(encoding="utf-8"))
    assert found.keys() == documents.keys()
    for name, made in found.items():
        bits, kind, double = PRECISIONS[name.split()[1]][1]
        assert (made["bits"], made["kind"], made["double"]) == (bits, kind, double), name
        assert made["compute"] == ("torch.bfloat16" if bits == 4 else "torch.float32"), name
        assert (made["bf16"], made["rank"], made["targets"], made["rate"]) == (True, 8, ["q_proj", "v_proj"], 2e-4), (
            name
        )
