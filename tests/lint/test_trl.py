"""Rules about TRL on every value a file may have: none fails, and what a trainer does not read is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftdsl.catalog.trainers import trainer_schema, trainers
from ftdsl.diagnostics import Sink
from ftdsl.lint.check import check
from ftdsl.lint.config import Config, Launch, Setting
from tests.conftest import Outcome
from tests.lint.reading import TRL_BASE, TRL_VERSIONS

ODD: list[Any] = ["x", "", -1, 0, 2.5, True, [], [1], ["a", None], [{}], {"a": 1}, None]


@pytest.mark.parametrize("verb", trainers("trl"))
@pytest.mark.slow
def test_no_value_makes_a_rule_fail(verb: str) -> None:
    others = trainer_schema("trl", "sft")
    for name, fact in trainer_schema("trl", verb).items():
        for value in ODD if verb == "sft" or fact != others.get(name) else ODD[:1]:
            settings = {key: Setting(key, given, key) for key, given in {**TRL_BASE, name: value}.items()}
            config = Config(settings, None, "trl", trainer=verb, versions=TRL_VERSIONS, launch=Launch(1, 2))
            check(config, Sink())


HEAD = """
hardware { gpu = none, count = 1 }
engine = trl
template = qwen
max_len = 64
duration = 4 steps
batch { micro = 8 }
"""
TINY = "model = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2)"
ROWS = {"rows.jsonl": '{"instruction": "q", "output": "a b", "answer": "a"}\n' * 8,
        "pairs.jsonl": '{"instruction": "q", "chosen": "a", "rejected": "b"}\n' * 8}  # fmt: skip
GRPO = f'grpo g {{ {TINY}, data = file("rows.jsonl"), generations = 4, full {{ }}, '
WRONG = {
    "a length that all answers have": ("FT632", GRPO + "generate { max_new_tokens = 16 }, rewards = [length(32)] }"),
    "a pattern that is everywhere": ("FT632", GRPO + "generate { max_new_tokens = 16 }, rewards = [regex('.*')] }"),
    "greedy answers": ("FT633", GRPO + 'rewards = [exact("answer")], generate { max_new_tokens = 16, top_k = 1 } }'),
    "a reference that is not there": (
        "FT630", GRPO + 'rewards = [exact("answer")], generate { max_new_tokens = 16 }, trl { ref_model_sync_steps = 8 } }'),
    "a copy beside an adapter": (
        "FT629", f'dpo d {{ {TINY}, data = file("pairs.jsonl"), lora {{ }}, trl {{ sync_ref_model = true }} }}'),
    "an adapter on the head": (
        "FT629", f'sft s {{ {TINY}, data = file("rows.jsonl"), lora {{ targets = [q_proj, lm_head] }} }}'),
    "both sizes of a generation": (
        "FT629", GRPO + 'rewards = [exact("answer")], generate { max_new_tokens = 16 }, '
        "trl { generation_batch_size = 8, steps_per_generation = 1 } }"),
    "part of a group": (
        "FT627", GRPO + 'rewards = [exact("answer")], generate { max_new_tokens = 16 }, trl { generation_batch_size = 10 } }'),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_recipe_is_held_to_the_rules_of_its_trainer(name: str, checked: Callable[..., Outcome]) -> None:
    code, stage = WRONG[name]
    assert code in checked(HEAD + stage, ROWS).codes


RIGHT = {
    "grpo": GRPO + 'rewards = [exact("answer"), length(4, weight = 0.1)], generate { max_new_tokens = 16 } }',
    "dpo": f'dpo d {{ {TINY}, data = file("pairs.jsonl"), lora {{ }} }}',
    "kto in order": f'sft s {{ {TINY}, data = file("rows.jsonl"), lora {{ }} }}',
    "pretrain": f'pretrain p {{ {TINY}, data = file("rows.jsonl", format = alpaca), full {{ }} }}',
    "reward": f'reward r {{ {TINY}, data = file("pairs.jsonl"), lora {{ }} }}',
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_recipe_that_is_right_is_left_alone(name: str, checked: Callable[..., Outcome]) -> None:
    outcome = checked(HEAD + RIGHT[name], ROWS)
    assert [code for code in outcome.codes if code.startswith(("FT62", "FT63", "FT0", "FT1", "FT2"))] == []
