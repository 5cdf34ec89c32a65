"""How long a stage trains that does not say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftdsl.language.values import Amount
from tests.conftest import Outcome


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_missing_duration_is_the_engines_and_is_reported(stage: str, checked: Callable[..., Outcome]) -> None:
    """Not left to be found in the YAML: it decides what a run costs."""
    rows = '{"instruction": "q", "output": "a", "chosen": "a", "rejected": "b", "text": "t"}\n' * 40
    text = (
        f'hardware {{ gpu = none, count = 1 }}\n{stage} {{ model = hf("Qwen/Qwen3-0.6B"), data = file("r.jsonl") }}\n'
    )
    result = checked(text, {"r.jsonl": rows})
    info = next(diagnostic for diagnostic in result.found if diagnostic.code == "FT700")
    assert "duration = 3 epochs (the engine's own default)" in info.notes
    plan = result.checked.plan
    assert plan is not None and plan.stages[0].stage.settings.get("duration") == Amount(3, "epochs")
