"""The benchmarks' entry points: the JSON they promise, rows they cannot read, every value of the format."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rows import Row, card, setup, targets
from tests.conftest import ROOT

HEADER = (
    "id,source,source_ref,split,quality,eval_mem,eval_tput,outcome,model,params_b,method,lora_r,lora_targets,quant,base_dtype,"
    "train_dtype,master,autocast,optimizer,opt_in_bwd,kbit_prepare,seq_len,seq_kind,micro_batch,grad_accum,grad_ckpt,act_offload,"
    "attn_impl,loss_impl,norm_impl,compile,strategy,offload,world,dp,tp,pp,cp,gpu,gpu_mem_gb,mem_reported,mem_unit,mem_gib,mem_kind,"
    "tput_reported,tput_unit,tok_s_gpu,step_s,mfu,framework,notes"
).split(",")

FULL = {
    "id": "own-1", "source": "own", "quality": "A", "eval_mem": "1", "eval_tput": "1", "outcome": "ok", "model": "Mistral-7B",
    "method": "full", "quant": "none", "base_dtype": "bf16", "train_dtype": "bf16", "master": "0", "autocast": "1",
    "optimizer": "adamw", "opt_in_bwd": "0", "kbit_prepare": "0", "seq_len": "4096", "seq_kind": "exact", "micro_batch": "4",
    "grad_accum": "1", "grad_ckpt": "full", "act_offload": "0", "attn_impl": "flash", "loss_impl": "flce", "norm_impl": "fused",
    "compile": "0", "strategy": "single", "offload": "none", "world": "1", "dp": "1", "tp": "1", "pp": "1", "cp": "1",
    "gpu": "A100-80G", "gpu_mem_gb": "80", "mem_gib": "67.46", "mem_kind": "allocated_peak", "tput_unit": "tok/s/gpu",
    "tok_s_gpu": "3420", "framework": "hf",
}  # fmt: skip
"""The published anchor of docs/planner.md, and what a card of that kind does there."""

VALUES = {
    "method": "full lora qlora lora+emb adapter adapter_v2",
    "quant": "none nf4 nf4-dq gptq4 gptq8 fp8_compute",
    "optimizer": "adamw adamw_fused adamw8bit paged_adamw paged_adamw8bit decoupled_adamw sgd adamw?",
    "seq_kind": "exact max_padded trunc_max variable variable(alpaca)",
    "grad_ckpt": "none full selective selective_op selective_layer selective_core_attn ?",
    "loss_impl": "hf_fp32 hf_fp32_new hf_bf16 hf_autocast fused_ce fused_ce_new flce litgpt_chunk tt_ce tt_ce_compile tt_chunk "
    "titan_ce titan_ce_compile megatron_ce",
    "strategy": "single ddp zero2 zero3 fsdp fsdp_grad_op hsdp gemini device_map zero1+tp+pp fsdp+tp fsdp+cp",
    "offload": "none optim params",
    "framework": "hf composer litgpt torchtune torchtitan fsdp_qlora megatron xtuner colossal automodel fms-fsdp",
    "mem_kind": "allocated_peak active_peak reserved_peak nvidia_smi capacity nvidia_smi? capacity?",
}


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEADER, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("name", ["memory", "throughput"])
def test_the_scores_as_json(name: str, tmp_path: Path) -> None:
    strange = FULL | {"id": "own-2", "model": "no such model", "source": "elsewhere"}
    left_out = FULL | {"id": "own-3", "eval_mem": "0", "eval_tput": "0"}
    scores = json.loads(run(name, str(write(tmp_path / "rows.csv", [FULL, strange, left_out])), "--json"))
    assert set(scores) == {"total", "by_source", "by_kind"}
    assert set(scores["total"]) == {"rows", "median_ape", "mape"}
    assert scores["total"]["rows"] == 2
    assert scores["by_source"]["elsewhere"]["mape"] == 1.0
    assert 0 < scores["by_source"]["own"]["mape"] < 0.1


@pytest.mark.parametrize("name", ["memory", "throughput"])
def test_the_scores_as_text_say_what_was_not_read(name: str, tmp_path: Path) -> None:
    strange = FULL | {"id": "own-2", "framework": "hf", "model": "no such model"}
    text = run(name, str(write(tmp_path / "rows.csv", [FULL, strange])), "--rows")
    assert "own-2: no such model: no such model" in text
    assert "without the source itself" in text


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, text in VALUES.items() for value in text.split()])
def test_every_value_of_the_format_has_estimates(key: str, value: str) -> None:
    from benchmarks.memory import estimate as gib
    from benchmarks.throughput import estimate as rate

    for world in ({}, {"world": "16", "dp": "2", "tp": "4", "pp": "2"}):
        row = Row(
            "x",
            "own",
            dict.fromkeys(HEADER, "")
            | FULL
            | {"lora_r": "16", "lora_targets": "c_attn,mlp,head"}
            | world
            | {key: value},
        )
        assert gib(row, row.cells["mem_kind"].rstrip("?")) > 0
        assert rate(row, "") > 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A100-80G", ("a100", 0.0, False)),
        ("A10G-24G", ("a10g", 0.0, False)),
        ("RTX4090-24G", ("rtx4090", 0.0, False)),
        ("H100-80G (500W)", ("h100", 500.0, False)),
        ("A100-80G (PCIe)", ("a100", 0.0, True)),
    ],
)
def test_names_of_cards(text: str, wanted: tuple[str, float, bool]) -> None:
    assert card(text) == wanted


def test_names_of_linear_maps() -> None:
    assert targets("c_attn,w1") == ("q", "k", "v", "up")
    assert setup(Row("x", "own", dict.fromkeys(HEADER, "") | FULL)).tokens == 16384
