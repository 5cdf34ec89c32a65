"""Which template a model takes, by its name."""

from __future__ import annotations

import pytest

from ftdsl import catalog


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),  # listed as Meta-Llama-3.1-…
        ("unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit", "llama3"),
        ("Qwen/Qwen3-9B", "qwen3"),  # a size that is not listed
        ("/models/Qwen2.5-7B-Instruct-AWQ", "qwen"),
        ("Qwen/Qwen3-4B-Instruct-2507", "qwen3_nothink"),
        ("me/llama-like", None),
        ("google/gemma-9-5b", None),  # a family of several templates
    ],
)
def test_the_template_of_a_model_by_its_name(model: str, template: str | None) -> None:
    assert catalog.template_for_model("llamafactory", model) == template
