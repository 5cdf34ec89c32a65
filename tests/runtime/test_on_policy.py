"""Prompts for stages that answer them, and what is said of groups: without torch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ftdsl.runtime.report import StageError
from ftdsl.runtime.tuning import on_policy
from ftdsl.runtime.tuning.rows import Row, Shape
from ftdsl.runtime.watch import step_metrics

ALPACA = Shape(
    "alpaca", {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}, {}, asks=True
)
ROLES = {"role": "role", "content": "content", "user": "user", "assistant": "assistant", "system": "system"}
CHAT = Shape("sharegpt", {"messages": "messages"}, ROLES, asks=True)

USER, ANSWER = {"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}
ROWS = [
    (ALPACA, {"instruction": "2 + 2", "output": "4"}, [USER], "4"),
    (ALPACA, {"instruction": "2 + 2"}, [USER], None),
    (ALPACA, {"instruction": "2", "input": "+ 2", "output": None}, [{"role": "user", "content": "2\n+ 2"}], None),
    (ALPACA, {"instruction": "2 + 2", "system": "add"}, [{"role": "system", "content": "add"}, USER], None),
    (ALPACA, {"instruction": "2 + 2", "output": "4", "answer": 5}, [USER], 5),
    (CHAT, {"messages": [USER]}, [USER], None),
    (CHAT, {"messages": [USER, ANSWER]}, [USER], "4"),
    (CHAT, {"messages": [USER, ANSWER, USER]}, [USER, ANSWER, USER], None),
    (
        CHAT,
        {"messages": [{"role": "system", "content": "add"}, USER]},
        [{"role": "system", "content": "add"}, USER],
        None,
    ),
]


@pytest.mark.parametrize(("shape", "raw", "prompt", "answer"), ROWS)
def test_a_row_is_a_prompt_with_its_columns(shape: Shape, raw: dict[str, Any], prompt: list[Any], answer: Any) -> None:
    raw = {**raw, "level": 3, "completion_ids": [1], "_source": 0}
    row = on_policy.read(shape, raw)
    assert row is not None
    record = on_policy.record(row, raw)
    assert record["prompt"] == prompt
    assert record.get("answer") == answer
    assert record["level"] == 3
    assert not {"completion_ids", "_source"} & record.keys()
    assert on_policy.conversation(prompt) == Row(row.messages, row.system)


@pytest.mark.parametrize("messages", [[], [ANSWER], [USER, USER], [{"role": "robot", "content": "x"}]])
def test_turns_out_of_order_are_left_out(messages: list[dict[str, str]]) -> None:
    assert on_policy.read(CHAT, {"messages": messages}) is None


def test_groups_without_spread_warn_once() -> None:
    seen: list[str] = []
    spread = on_policy.Spread(lambda fault: seen.append(fault.message))
    for share in [1.0] * 9 + [0.5] + [1.0] * 9:
        spread.see({"frac_reward_zero_std": share})
    spread.see({"loss": 1.0})
    assert seen == []
    for _ in range(30):
        spread.see({"frac_reward_zero_std": 1.0})
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("rows", "generations", "message"), [(16, 8, ""), (15, 8, "takes 16 prompts"), (127, 1, "takes 128")]
)
def test_fewer_prompts_than_a_step_takes(rows: int, generations: int, message: str) -> None:
    arguments = SimpleNamespace(
        per_device_train_batch_size=16, world_size=2, gradient_accumulation_steps=4, num_generations=generations
    )
    if not message:
        on_policy.enough(rows, arguments)
        return
    with pytest.raises(StageError, match=message):
        on_policy.enough(rows, arguments)


def test_what_a_step_carries() -> None:
    logs = {
        "loss": 0.1, "reward": 0.5, "reward_std": 0.2, "frac_reward_zero_std": 0.25, "rewards/exact/mean": 0.4,
        "rewards/exact/std": 0.1, "completions/mean_length": 3, "clip_ratio/region_mean": 0.0, "clip_ratio/low_min": 0.0,
        "expert_load/0": 0.25, "kl": None, "profiling/Time": 1.0,
    }  # fmt: skip
    assert step_metrics(logs) == {
        "reward": 0.5, "reward_std": 0.2, "zero_spread": 0.25, "rewards/exact": 0.4, "answer_tokens": 3.0, "clip_share": 0.0,
        "expert_load/0": 0.25,
    }  # fmt: skip
