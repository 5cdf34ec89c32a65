"""`--fix` changes nothing that could be meant: only another name for the same, and what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ftc

BASE = """\
model_name_or_path: Qwen/Qwen3-0.6B
stage: sft
do_train: true
dataset: rows
template: qwen3
finetuning_type: lora
output_dir: out
"""
INFO = '{"rows": {"file_name": "rows.json"}}'

KEPT = {
    "which interval counts": "load_best_model_at_end: true\n"
    "eval_strategy: steps\neval_steps: 200\nsave_steps: 500\nval_size: 0.1\n",
    "which precision is meant": "bf16: true\nfp16: true\n",
    "whether norms are lifted": "quantization_bit: 4\nbf16: true\n",
    "whether precision is mixed": "bf16: false\n",
    "a step and a half": "save_steps: 100.5\n",
    "checkpointing that another tool has": "gradient_checkpointing: false\n",
    "weights that are resumed": "save_only_model: true\nresume_from_checkpoint: out/checkpoint-5\n",
}


@pytest.mark.parametrize("lines", KEPT.values(), ids=KEPT)
def test_what_could_be_meant_stays(lines: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(INFO, encoding="utf-8")
    (tmp_path / "data" / "rows.json").write_text('[{"instruction": "q", "input": "", "output": "a"}]', encoding="utf-8")
    (tmp_path / "a.yaml").write_text(BASE + lines, encoding="utf-8")
    ftc("check", "--fix", "a.yaml", cwd=tmp_path)
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == BASE + lines


MENDED = {
    "evaluation_strategy: 'no'\n": "eval_strategy: 'no'\n",
    "save_safetensors: true\n": "",
    "gradient_checkpointing: true\n": "",
}


@pytest.mark.parametrize(("before", "after"), MENDED.items(), ids=MENDED)
def test_another_name_and_what_has_no_effect_are_mended(before: str, after: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE + before, encoding="utf-8")
    ftc("check", "--fix", "a.yaml", cwd=tmp_path)
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == BASE + after
