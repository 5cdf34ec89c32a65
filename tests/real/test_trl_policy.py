"""Stages of TRL that train on the model's own answers, and adapters of ours through a recipe: looked at from inside."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT, ftc_process

pytestmark = pytest.mark.real

OWN = '''
def digits(completions, **columns):
    """Share of the characters that are digits."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(char.isdigit() for char in text) / max(1, len(text)) for text in texts]


def leveled(completions, level):
    return [float(str(wanted) in completion[0]["content"]) for completion, wanted in zip(completions, level)]


def flat(completions):
    return [1.0 for _ in completions]
'''
RECIPE = """
hardware { gpu = none, count = 1 }
engine = trl
template = qwen3_nothink
max_len = 48
precision = fp32
data = file("rows.jsonl")
optim { lr = 3e-3 }
track { every = 1 steps }
save { every = never }
let tiny = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2, vocab = 300)

sft bottle { model = tiny, duration = 12 steps, adapter { size = 8 }, batch { micro = 8 } }
sft mixture {
  model = tiny, duration = 12 steps, batch { micro = 4, accumulate = 2 }
  lora { rank = 4, experts = 4, top_k = 1, balance = 0.05 }
}
sft further from mixture { duration = 3 steps, batch { micro = 8 } }
sft teacher { model = tiny, duration = 30 steps, full {}, batch { micro = 16 } }
reward judge { model = tiny, data = file("pairs.jsonl"), duration = 10 steps, lora {}, batch { micro = 8 } }
grpo digits {
  model = tiny, duration = 50 steps, full {}, optim { lr = 1e-2 }, batch { micro = 64 }, generate { max_new_tokens = 6 }
  rewards = [python("own.py:digits"), length(6, weight = 0.5)]
}
grpo judged {
  model = tiny, duration = 2 steps, lora { experts = 2 }, batch { micro = 16 }, generate { max_new_tokens = 4 }
  rewards = [judge(judge), python("own.py:leveled", weight = 2), exact("answer"), code(timeout = 1s), format([a])]
  beta = 0.05
}
grpo nothing {
  model = tiny, duration = 11 steps, lora {}, batch { micro = 8 }, generate { max_new_tokens = 2 }
  rewards = [python("own.py:flat")]
}
distill own {
  model = tiny, duration = 12 steps, full {}, batch { micro = 16 }, generate { max_new_tokens = 6 }
  teacher = teacher
}
distill both {
  model = tiny, duration = 12 steps, full {}, batch { micro = 16 }, generate { max_new_tokens = 6 }
  teacher = teacher, on_policy = 50%, divergence = 0
}
distill offline { model = tiny, duration = 12 steps, full {}, batch { micro = 16 } }
"""
LOAD = """
import json, sys, torch
sys.path.insert(0, sys.argv[2])
from load_adapter import load
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = torch.arange(24).reshape(2, 12)
plain = base(ids).logits.detach()
model = load(base, sys.argv[2]).eval()
with model.disable_adapter():
    off = model(ids).logits
print(json.dumps([float((model(ids).logits - plain).abs().max()), float((off - plain).abs().max())]))
"""


class Ran:
    """A run, by the names of its stages."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.folder, self.document = folder, document

    def stage(self, name: str) -> Path:
        (found,) = self.folder.glob(f"*-{name}")
        return found

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        lines = (self.stage(name) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def metrics(self, name: str) -> list[dict[str, float]]:
        return [event["metrics"] for event in self.events(name, "step")]

    def result(self, name: str) -> dict[str, float]:
        found: dict[str, float] = json.loads((self.stage(name) / "result.json").read_text())["metrics"]
        return found


@pytest.fixture(scope="module")
def ran(forking_trl: Environment, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place = tmp_path_factory.mktemp("policy")
    words = ("red", "blue", "seven", "north")
    rows = [{"instruction": f"say {n}", "input": "", "output": f"{words[n % 4]} {words[n // 4 % 4]}", "level": n % 7,
             "tests": ["assert False"]} for n in range(64)]  # fmt: skip
    pairs = [{"instruction": row["instruction"], "chosen": "1 2 3", "rejected": row["output"]} for row in rows]
    for name, lines in (("rows", rows), ("pairs", pairs)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (place / "own.py").write_text(OWN, encoding="utf-8")
    (place / "r.ft").write_text(RECIPE, encoding="utf-8")
    python = str(forking_trl.python)
    done = ftc_process("run", "r.ft", "--json", "--no-preload", "--engine-python", python, cwd=place)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    failed = {stage["stage"]: stage for stage in document["stages"] if stage["status"] not in ("done", "cached")}
    assert not failed, json.dumps(failed)[-3000:]
    return Ran(place / "runs" / "r" / "last", document)


def test_rewards_rise(ran: Ran) -> None:
    metrics = ran.metrics("digits")
    first, last = metrics[:5], metrics[-5:]
    assert sum(m["rewards/digits"] for m in last) > sum(m["rewards/digits"] for m in first) + 0.5
    for step in metrics:  # weights: 1 and 0.5
        assert step["reward"] == pytest.approx(step["rewards/digits"] + 0.5 * step["rewards/length"], abs=1e-4)
        assert step["answer_tokens"] <= 6
        assert {"reward_std", "zero_spread", "entropy", "clip_share", "cut_answers"} <= step.keys()
    result = ran.result("digits")
    assert result["reward"] > result["first_reward"]


def test_every_kind_of_reward_is_logged(ran: Ran) -> None:
    for step in ran.metrics("judged"):
        names = {name for name in step if name.startswith("rewards/")}
        assert names == {"rewards/judge", "rewards/leveled", "rewards/exact", "rewards/code", "rewards/format"}
        assert step["rewards/code"] == step["rewards/format"] == 0
        assert step["rewards/judge"] != 0
        assert step["kl"] >= 0
        assert {"gate_entropy", "expert_load/0", "expert_load/1", "balance_loss"} <= step.keys()


def test_the_judge_prefers_what_it_learned(ran: Ran) -> None:
    assert ran.result("judge")["last_loss"] < 0.3 * ran.result("judge")["first_loss"]


def test_groups_without_spread_are_told(ran: Ran) -> None:
    assert all(step["zero_spread"] == 1 for step in ran.metrics("nothing"))
    (warning,) = ran.events("nothing", "warning")
    assert "all answers to each prompt got the same reward" in warning["message"]
    assert warning["keys"][0] == "rewards"


def test_distillation(ran: Ran) -> None:
    assert ran.result("own")["last_loss"] < 0.7 * ran.result("own")["first_loss"]
    assert {step["on_policy"] for step in ran.metrics("own")} == {1.0}
    shares = [step["on_policy"] for step in ran.metrics("both")]
    assert set(shares) == {0.0, 1.0}
    lengths = {step["on_policy"]: step["answer_tokens"] for step in ran.metrics("both")}
    assert lengths[0.0] < lengths[1.0]  # what an untrained model writes is longer
    assert ran.result("offline")["last_loss"] < ran.result("offline")["first_loss"]


def test_gates_move_and_experts_are_loaded(ran: Ran) -> None:
    metrics = ran.metrics("mixture")
    assert metrics[0]["gate_entropy"] != metrics[-1]["gate_entropy"]
    for step in metrics:
        assert sum(step[f"expert_load/{number}"] for number in range(4)) == pytest.approx(1, abs=1e-4)
        assert 0.25 <= step["expert_load/max"] <= 1
        assert step["balance_loss"] == pytest.approx(0.05, abs=0.03)
    assert ran.result("further")["first_loss"] < ran.result("mixture")["first_loss"]


def test_own_adapters_are_loaded_outside(ran: Ran, trl: Environment) -> None:
    base = ran.stage("scratch") / "result"
    for name in ("bottle", "further"):
        command = [str(trl.python), "-I", "-c", LOAD, str(base), str(ran.stage(name) / "result")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        changed, off = json.loads(done.stdout.splitlines()[-1])
        assert changed > 0.05
        assert off < 1e-6


CARDS = """
hardware { gpu = h100(80GB), count = 4 }
engine = trl
template = qwen3
max_len = 2048
model = hf("Qwen/Qwen3-0.6B")
data = file("rows.jsonl")
duration = 100 steps
generate { max_new_tokens = 1024, top_p = 0.95, top_k = 50 }
grpo colocated {
  rewards = [exact("answer", take = boxed), length(800, weight = 0.1)], generations = 16, batch { global = 64 }, lora {}
  loss = dr_grpo, importance = sequence, clip_high = 0.28, scale = none, inner_epochs = 2, mask_truncated = true, beta = 0.01
  backend = vllm(colocate, gpu_memory = 40%, tensor = 2)
}
grpo served {
  rewards = [exact], full {}, batch { global = 64 }
  backend = vllm(server, url = "http://10.0.0.7:8000")
}
distill student {
  teacher = hf("Qwen/Qwen3-4B"), divergence = 0.5, lora {}, batch { global = 64 }
  backend = vllm(colocate, gpu_memory = 30%)
}
"""
CONFIGURED = """
import dataclasses, json, sys, yaml
from ftdsl.runtime.tuning import build, trainers
found = {}
for path in sys.argv[1:]:
    config = yaml.safe_load(open(path))
    kind = trainers.kind_of(config["data"])
    params = {name: value for name, value in config.items() if name not in (*build.OURS, "max_length", "deepspeed")}
    made = trainers.arguments(kind, params | {"bf16": False, "fp16": False, "use_cpu": True})
    found[path] = {field.name: getattr(made, field.name) for field in dataclasses.fields(made) if field.name in params}
print(json.dumps(found, default=str))
"""


def test_vllm_and_every_key_are_taken_by_trl(forking_trl: Environment, tmp_path: Path) -> None:
    """No GPU is here: what is compiled for four of them is held against TRL's configuration classes."""
    row = json.dumps({"instruction": "q", "input": "", "output": "a"})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n", encoding="utf-8")
    (tmp_path / "r.ft").write_text(CARDS, encoding="utf-8")
    done = ftc_process("compile", "r.ft", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    paths = sorted(str(path) for path in (tmp_path / "build").rglob("train.yaml"))
    command = [str(forking_trl.python), "-c", CONFIGURED, *paths]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WORLD_SIZE": "1"}
    probed = subprocess.run(command, env=env, capture_output=True, text=True)
    assert probed.returncode == 0, probed.stderr[-2000:]
    colocated, served, student = (json.loads(probed.stdout.splitlines()[-1])[path] for path in paths)
    asked = {
        "use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.4, "vllm_tensor_parallel_size": 2,
        "vllm_max_model_length": 2048, "max_completion_length": 1024, "top_p": 0.95, "top_k": 50, "num_generations": 16,
        "loss_type": "dr_grpo", "importance_sampling_level": "sequence", "epsilon": 0.2, "epsilon_high": 0.28,
        "scale_rewards": "none", "num_iterations": 2, "mask_truncated_completions": True, "beta": 0.01,
        "reward_weights": [1.0, 0.1],
    }  # fmt: skip
    assert asked.items() <= colocated.items()
    assert served["vllm_server_base_url"] == "http://10.0.0.7:8000"
    assert (student["beta"], student["use_vllm"]) == (0.5, True)
