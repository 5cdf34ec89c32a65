"""Folders of a run sort by name in the order in which their stages run, however many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import ROWS, Outcome

STAGES = """
hardware {{ gpu = none, count = 1 }}
template = qwen3_nothink
data d {{ source = file("rows.jsonl") }}
sft {{
  model = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2, vocab = 600)
  data = d, duration = 2 steps, full {{ }}, seed in [{seeds}], {tokenize}
}}
dpo last {{ model = best(sft, lowest(train_loss)), data = file("pairs.jsonl"), lora {{ }} }}
"""
PAIRS = '{"prompt": "q", "chosen": "a", "rejected": "b"}\n' * 16


@pytest.mark.parametrize("tokenize", ["", "tokenize = ahead"])
@pytest.mark.parametrize("runs", [2, 8, 9, 12, 98, 99])
def test_folders_sort_as_they_run(checked: Callable[..., Outcome], runs: int, tokenize: str) -> None:
    text = STAGES.format(seeds=", ".join(map(str, range(runs))), tokenize=tokenize)
    outcome = checked(text, {**ROWS, "pairs.jsonl": PAIRS})
    assert outcome.codes == [] and outcome.checked.plan is not None
    planned = [stage.folder for stage in outcome.checked.plan.stages]
    assert planned == sorted(planned)
    folders = [job.folder for job in outcome.checked.jobs]
    assert len({len(folder.partition("-")[0]) for folder in folders}) == 1, "numbers have as many digits"
    names = sorted(folders)
    assert names.index(next(name for name in names if "-scratch" in name)) == 1, "after the data"
    assert "best" in names[-2] and names[-1].endswith("last")
