"""Every rule: its docstring is whole, its example raises it, what it says to use instead does not, its name is its code's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftdsl.diagnostics.codes import CODES
from ftdsl.lint.about import examples, sections
from ftdsl.lint.check import load
from tests.conftest import ROWS, Outcome
from tests.lint.reading import lint

RULES = load()
NAMES = ("LLaMA-Factory", "Muon", "Adam-mini", "DeepSpeed", "YAML", "FSDP", "ZeRO", "PPO", "DoRA", "PiSSA", "LoRA",
         "GaLore", "APOLLO", "BAdam", "KTransformers", "Unsloth", "NaN", "HQQ", "EETQ", "OFT", "KTO", "DPO", "JSON", "Gemma",
         "GPTQ", "FP8", "FlashAttention", "Youtu-VL", "TRL", "Megatron")  # fmt: skip
"""What a message may begin with besides a small letter."""


def test_a_configuration_that_is_fine_is_fine() -> None:
    assert [(one.code, one.message) for one in lint(examples("seed: 42\n")[0])] == []


@pytest.mark.parametrize("code", RULES)
def test_a_rule_says_all_of_itself(code: str) -> None:
    rule = RULES[code]
    about = sections(rule)
    assert all(about.values())
    assert CODES[code] == rule.__name__.replace("_", "-")


CASES = [
    (code, at, example)
    for code, rule in RULES.items()
    for at, example in enumerate(examples(sections(rule)["Example"]))
    if "recipe.ft" not in example.files
]
FINE = [
    (code, at, example)
    for code, rule in RULES.items()
    for at, example in enumerate(examples(sections(rule)["Use instead"]))
    if "recipe.ft" not in example.files
]


@pytest.mark.parametrize(("code", "at", "example"), CASES, ids=[f"{code}-{at}" for code, at, _ in CASES])
def test_the_example_raises_it(code: str, at: int, example: object) -> None:
    found = lint(example)  # type: ignore[arg-type]
    assert code in [one.code for one in found], [(one.code, one.message) for one in found]
    for one in found:
        if one.code == code:
            assert one.message[0].islower() or one.message[0] in "`0123456789" or one.message.startswith(NAMES), (
                one.message
            )
            assert "invalid" not in one.message
            assert one.severity.value == "info" or one.help or one.label or one.fix or one.labels, one.message


@pytest.mark.parametrize(("code", "at", "example"), FINE, ids=[f"{code}-{at}" for code, at, _ in FINE])
def test_what_to_use_instead_does_not(code: str, at: int, example: object) -> None:
    found = [(one.code, one.message) for one in lint(example) if one.code == code]  # type: ignore[arg-type]
    assert found == []


STAGE = """
hardware { gpu = h100, count = 2 }
sft { model = hf("Qwen/Qwen3-8B"), data = file("rows.jsonl"), lora { }, template = qwen3
  parallel { strategy = fsdp1 }
}
"""


def test_a_generated_file_is_shown_at_what_decides_it(checked: Callable[..., Outcome]) -> None:
    diagnostic = next(diagnostic for diagnostic in checked(STAGE, ROWS).found if diagnostic.code == "FT410")
    assert diagnostic.span is not None and diagnostic.span.text == "fsdp1"


def test_a_default_is_not_shown_at_the_first_line() -> None:
    (example,) = examples("load_best_model_at_end: true\neval_strategy: epoch\nval_size: 0.1\n")
    (diagnostic,) = (diagnostic for diagnostic in lint(example) if diagnostic.code == "FT105")
    assert diagnostic.labels == () and diagnostic.span is not None and diagnostic.span.text == "epoch"
