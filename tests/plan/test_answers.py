"""What `ftc plan` says of stages that train on the model's own answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ftc

RECIPE = """
engine = trl
hardware {{ gpu = h100(80GB), count = 4 }}
template = qwen3
max_len = 2048
data = file("rows.jsonl")
duration = 10 steps
model = hf("Qwen/Qwen3-4B")
batch {{ global = 64, micro = 2 }}
generate {{ max_new_tokens = 1024 }}
reward judge {{ model = hf("Qwen/Qwen3-0.6B"), data = file("pairs.jsonl"), full {{}} }}
{kind} s {{ {body} }}
"""
GRPO = "rewards = [exact], generations = 16"
GIB = 2**30
CACHE = 16 * 2048 * (2 * 2 * 8 * 128 * 36) / GIB
"""GiB of keys and values: 16 answers on a GPU, with their prompts 2048 tokens; Qwen3-4B has 36 layers of 8 key heads of 128."""


def planned(place: Path, kind: str, body: str) -> tuple[str, dict[str, Any]]:
    """The stage's part of the text, and its forecast."""
    row = json.dumps({"instruction": "q", "input": "", "output": "a", "answer": "a", "chosen": "a", "rejected": "b"})
    for name in ("rows", "pairs"):
        (place / f"{name}.jsonl").write_text(f"{row}\n" * 80, encoding="utf-8")
    (place / "r.ft").write_text(RECIPE.format(kind=kind, body=body), encoding="utf-8")
    shown = ftc("plan", "r.ft", cwd=place)
    assert shown.returncode == 0, shown.stderr
    document = json.loads(ftc("plan", "r.ft", "--json", cwd=place).stdout)
    forecast = next(stage["forecast"] for stage in document["stages"] if stage["stage"] == "s")
    return " ".join(shown.stdout.partition("+ s ")[2].split()), forecast


def test_answers_of_a_step_and_their_cache(tmp_path: Path) -> None:
    text, forecast = planned(tmp_path, "grpo", f"{GRPO}, lora {{}}")
    assert "64 a step, 16 to each of 4 prompts, up to 1,024 tokens; 16 at once on a GPU" in text
    assert f"keys and values take {CACHE:.1f} GiB" in text and "(an estimate)" in text
    assert "beside it" not in text, "an adapter is switched off: there is no second model"
    answers = forecast["answers"]
    assert (answers["tokens"], answers["at_once"]) == (1024, 16)
    assert 0 < answers["seconds"] < forecast["step_seconds"]


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("grpo", f"{GRPO}, full {{}}, beta = 0.1", "beside it a reference: "),
        ("grpo", f"{GRPO}, full {{}}", ""),
        ("grpo", "rewards = [judge(judge)], generations = 16, lora {}", "beside it a judge: 1.1 GiB"),
        ("distill", 'teacher = hf("Qwen/Qwen3-8B"), lora {}', "beside it the teacher: 15.3 GiB"),
        ("distill", 'teacher = hf("someone/unknown"), lora {}', "beside it the teacher: 7.5 GiB"),
    ],
)
def test_frozen_models_besides(kind: str, body: str, said: str, tmp_path: Path) -> None:
    text, _ = planned(tmp_path, kind, body)
    assert said in text if said else "beside it" not in text


def test_vllm_keeps_a_share_and_its_time_is_not_known(tmp_path: Path) -> None:
    text, forecast = planned(tmp_path, "grpo", f"{GRPO}, lora {{}}, backend = vllm(colocate, gpu_memory = 40%)")
    assert "vLLM keeps 32.0 GiB of each GPU; its time is not estimated" in text
    assert forecast["answers"] == {"tokens": 1024, "at_once": None, "seconds": None}
    assert forecast["peak"]["terms"]["vLLM"] == 32 * GIB
    text, forecast = planned(tmp_path, "grpo", f'{GRPO}, lora {{}}, backend = vllm(server, url = "http://h:8000")')
    assert "written by a vLLM server" in text and "vLLM" not in forecast["peak"]["terms"]


def test_inner_epochs_write_less_often(tmp_path: Path) -> None:
    once = planned(tmp_path, "grpo", f"{GRPO}, lora {{}}")[1]["answers"]["seconds"]
    twice = planned(tmp_path, "grpo", f"{GRPO}, lora {{}}, inner_epochs = 2")[1]["answers"]["seconds"]
    assert twice == pytest.approx(once / 2, rel=0.01)
    half = planned(tmp_path, "distill", 'teacher = hf("Qwen/Qwen3-8B"), lora {}, on_policy = 50%')[1]["answers"]
    whole = planned(tmp_path, "distill", 'teacher = hf("Qwen/Qwen3-8B"), lora {}')[1]["answers"]
    assert half["seconds"] == pytest.approx(whole["seconds"] / 2, rel=0.01)


def test_a_distillation_from_files_writes_nothing(tmp_path: Path) -> None:
    text, forecast = planned(tmp_path, "distill", "lora {}")
    assert "answers" not in text and forecast["answers"] is None
