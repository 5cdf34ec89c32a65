"""What one engine makes and the other cannot read is refused, at the key that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

HEAD = """
hardware { gpu = h100(80GB), count = 1 }
template = qwen3
max_len = 64
duration = 8 steps
batch { micro = 2 }
"""
ROWS = {"rows.jsonl": '{"instruction": "q", "output": "a b", "answer": "a"}\n' * 8,
        "pairs.jsonl": '{"instruction": "q", "chosen": "a", "rejected": "b"}\n' * 8}  # fmt: skip
SMALL = 'model = hf("Qwen/Qwen3-0.6B")'
MOE = 'model = hf("Qwen/Qwen3-30B-A3B")'
JUDGE = f'reward judge {{ {SMALL}, data = file("pairs.jsonl"), lora {{ }}, engine = ENGINE }}\n'
PPO = f'ppo {{ {SMALL}, data = file("rows.jsonl"), reward = judge, lora {{ }}, engine = llamafactory }}'
GRPO = (
    f'grpo {{ {SMALL}, data = file("rows.jsonl"), rewards = [judge(judge)], generations = 2, '
    "generate { max_new_tokens = 8 }, lora { } }"
)
TRAINED = f'sft a {{ {MOE}, data = file("rows.jsonl"), engine = trl, lora {{ PARTS }} }}\n'
NEXT = 'dpo from a { data = file("pairs.jsonl"), engine = llamafactory }'


PACKAGES = {"llamafactory": {"llamafactory": "0.9.5", "transformers": "5.6.0", "peft": "0.18.1"},
            "trl": {"trl": "1.16.0", "transformers": "5.23.0", "peft": "0.21.2"}}  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """Environments of both engines by the names of what is in them, as FTC_ENGINE_PYTHON names them."""
    for engine, packages in PACKAGES.items():
        for name, version in packages.items():
            (tmp_path / engine / f"lib/python3.11/site-packages/{name}-{version}.dist-info").mkdir(parents=True)
        (tmp_path / engine / "bin").mkdir()
        (tmp_path / engine / "bin/python").touch()
    return ",".join(f"{engine}={tmp_path / engine / 'bin/python'}" for engine in PACKAGES)


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (JUDGE.replace("ENGINE", "trl") + PPO, "made by TRL, whose reward models LLaMA-Factory cannot load"),
        (JUDGE.replace("ENGINE", "llamafactory") + GRPO, "made by LLaMA-Factory, whose reward models TRL cannot load"),
        (TRAINED.replace("PARTS", 'target_parameters = ["mlp.experts.gate_up_proj"]') + NEXT, "is on fused experts"),
        (TRAINED.replace("PARTS", "") + NEXT, "is on fused experts"),
    ],
)
def test_what_the_other_engine_cannot_read_is_refused(
    recipe: str, text: str, checked: Callable[..., Outcome], installed: str
) -> None:
    outcome = checked(HEAD + recipe, ROWS, FTC_ENGINE_PYTHON=installed)
    assert any(text in one.message for one in outcome.found), [one.message for one in outcome.found]


@pytest.mark.parametrize(
    "recipe",
    [
        JUDGE.replace("ENGINE", "trl") + GRPO,
        JUDGE.replace("ENGINE", "llamafactory") + PPO,
        TRAINED.replace("PARTS", "targets = [q_proj]") + NEXT,
        TRAINED.replace("PARTS", "") + NEXT.replace("llamafactory", "trl"),
        TRAINED.replace("PARTS", "").replace("30B-A3B", "0.6B") + NEXT,
    ],
)
def test_what_it_can_read_is_not(recipe: str, checked: Callable[..., Outcome], installed: str) -> None:
    outcome = checked(HEAD + recipe, ROWS, FTC_ENGINE_PYTHON=installed)
    refused = [one.message for one in outcome.found if "cannot load" in one.message or "fused experts" in one.message]
    assert [text for text in refused if "LoRA does not reach" not in text] == []
