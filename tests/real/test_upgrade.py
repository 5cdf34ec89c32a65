"""What `ftc upgrade` makes of an old YAML is taken by the installed engine, which refuses the old one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from ftdsl.source import Source
from ftdsl.upgrade.upgrade import upgrade
from tests.real.test_accepted import verdicts

pytestmark = pytest.mark.real

OLD = """\
model_name_or_path: a/b
stage: sft
do_train: true
dataset: alpaca_en_demo
template: default
finetuning_type: lora
output_dir: out
use_cpu: true
evaluation_strategy: steps
val_size: 0.1
warmup_ratio: 0.1
group_by_length: true
new_special_tokens: <a>
image_resolution: 512
quantization_method: bitsandbytes
dispatch_batches: false
save_safetensors: true
report_to: none
"""


def test_an_old_file_is_taken_again(forking: Environment, tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    upgraded = upgrade(Source("old.yaml", OLD), {"llamafactory": forking.packages["llamafactory"]}, {})
    assert not upgraded.needs_attention, [diagnostic.message for diagnostic in upgraded.diagnostics]
    old.write_text(OLD, encoding="utf-8")
    new.write_text(upgraded.text, encoding="utf-8")
    verdict = verdicts([old, new], forking, tmp_path)
    assert "evaluation_strategy" in verdict[str(old)]
    assert verdict[str(new)] == ""
