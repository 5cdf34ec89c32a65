"""Sizes of a step that cannot be: what is suggested is the nearest that can, and works with what else the recipe sets."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.conftest import ROWS, Outcome, small

HARDWARE = "hardware { gpu = none, count = 1 }"
GRPO = """
{hardware}
template = qwen3_nothink
grpo {{
  model = hf("Qwen/Qwen3-0.6B"), data = file("rows.jsonl"), duration = 3 steps, lora {{ rank = 8 }}
  max_len = 2Ki, rewards = [exact("answer")]{more}
  batch {{ {batch} }}
}}
"""
QUESTIONS = {"rows.jsonl": '{"prompt": "1 + 1?", "answer": "2"}\n' * 64}
BATCHES = ["global = 60", "global = 60, micro = 20", "micro = 6, accumulate = 2", "global = 60, accumulate = 3", "micro = 5",
           "global = 60, micro = 6", "tokens = 30Ki", "global = 3"]  # fmt: skip


def suggested(outcome: Outcome) -> str:
    (diagnostic,) = (diagnostic for diagnostic in outcome.found if diagnostic.code == "FT401")
    return diagnostic.help


def follow(help: str, batch: str) -> list[str]:
    """The batches that a help suggests."""
    matches = re.findall(r"`(global|accumulate) = ([\d or]+)`", help)
    assert matches, help
    written = []
    for key, values in matches:
        rest = [part for part in batch.split(", ") if not part.startswith((f"{key} ", "tokens"))]
        written += [", ".join([*rest, f"{key} = {value}"]) for value in values.split(" or ")]
    return written


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("gpu", ["none", "h100"])
@pytest.mark.parametrize("batch", BATCHES)
def test_whole_groups_are_suggested_that_work(
    checked: Callable[..., Outcome], batch: str, gpu: str, count: int
) -> None:
    def check(batch: str) -> Outcome:
        hardware = f"hardware {{ gpu = {gpu}, count = {count} }}"
        return checked(GRPO.format(hardware=hardware, more="", batch=batch), QUESTIONS)

    outcome = check(batch)
    if "FT401" not in outcome.codes:
        assert count == 2 and "global" not in batch, "on two processes it may hold whole groups"
        return
    for again in follow(suggested(outcome), batch):
        assert "FT401" not in check(again).codes, again


def test_the_nearest_sizes_are_suggested(checked: Callable[..., Outcome]) -> None:
    text = GRPO.format(hardware="hardware { gpu = h100, count = 1 }", more="", batch="global = 60")
    assert suggested(checked(text, QUESTIONS)) == "write `global = 56 or 64`"


@pytest.mark.parametrize("gpu", ["none", "h100"])
@pytest.mark.parametrize(
    ("batch", "help"),
    [
        ("global = 60", "write `global = 56 or 64`"),
        ("global = 60, micro = 4", "write `global = 32 or 64`, or change `micro`"),
        ("global = 60, accumulate = 7", "write `global = 56 or 112`, or change `accumulate`"),
        ("global = 64, micro = 4, accumulate = 4", "write `global = 128`, or `accumulate = 2`"),
        ("global = 60, micro = 4, accumulate = 2", "write `global = 64`"),
    ],
)
def test_sizes_of_a_step_are_suggested_that_work(
    checked: Callable[..., Outcome], batch: str, help: str, gpu: str
) -> None:
    def check(batch: str) -> Outcome:
        text = small(f"batch {{ {batch} }}").replace("gpu = none, count = 1", f"gpu = {gpu}, count = 8")
        return checked(text, ROWS)

    assert suggested(check(batch)) == help
    for again in follow(help, batch):
        assert "FT401" not in check(again).codes, again
