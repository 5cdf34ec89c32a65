"""The benchmarks' entry points: the JSON they promise, rows they cannot read, every value of the format."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rows import Row, setup, targets
from ftdsl.catalog.cards import Card, card_named
from tests.conftest import ROOT

HEADER = (
    "id,source,source_ref,split,quality,eval_mem,eval_tput,outcome,model,params_b,method,lora_r,lora_targets,quant,base_dtype,"
    "train_dtype,master,autocast,optimizer,opt_in_bwd,kbit_prepare,seq_len,seq_kind,micro_batch,grad_accum,grad_ckpt,act_offload,"
    "attn_impl,loss_impl,norm_impl,compile,strategy,offload,world,dp,tp,pp,cp,vp,gpu,gpu_mem_gb,mem_reported,mem_unit,mem_gib,mem_kind,"
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
    "base_dtype": "fp32 bf16 fp16",
    "train_dtype": "fp32 bf16 fp16",
    "attn_impl": "flash sdpa eager ?",
    "norm_impl": "eager fused",
    "compile": "0 1",
    "act_offload": "0 1",
    "master": "0 1",
    "autocast": "0 1",
    "opt_in_bwd": "0 1",
    "kbit_prepare": "0 1",
    "vp": "2 6",
    "lora_targets": "q k v o gate up down mlp head all c_attn c_proj w1 w2",
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
    means = {"macro_median", "macro_mape", "macro_coverage"}
    assert set(scores["total"]) == {"rows", "median_ape", "mape", "coverage"} | means
    assert set(scores["by_source"]["own"]) == {"rows", "median_ape", "mape", "coverage"}
    assert scores["total"]["coverage"] == 0.5 and scores["total"]["macro_mape"] > 0.5
    assert scores["total"]["rows"] == 2
    assert scores["by_source"]["elsewhere"]["mape"] == 1.0
    assert 0 < scores["by_source"]["own"]["mape"] < 0.15


@pytest.mark.parametrize("name", ["memory", "throughput"])
def test_the_scores_as_text_say_what_was_not_read(name: str, tmp_path: Path) -> None:
    strange = FULL | {"id": "own-2", "framework": "hf", "model": "no such model"}
    text = run(name, str(write(tmp_path / "rows.csv", [FULL, strange])), "--rows")
    assert "own-2: no such model: no such model" in text
    assert "each source left out" in text and "mean over sources" in text


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
        ("A100-80G", ("a100", 80, 0.0, False)),
        ("A10G-24G", ("a10g", 24, 0.0, False)),
        ("RTX4090-24G", ("rtx4090", 24, 0.0, False)),
        ("H100-80G (500W)", ("h100", 80, 500.0, False)),
        ("A100-80G (PCIe)", ("a100pcie", 80, 0.0, True)),
        ("A6000Ada-48G", ("rtx6000ada", 48, 0.0, False)),
        ("A6000-48G", ("a6000", 48, 0.0, False)),
        ("NVIDIA RTX 6000 Ada Generation", ("rtx6000ada", 0, 0.0, False)),
        ("L40S-48G", ("l40s", 48, 0.0, False)),
        ("NVIDIA A1000", ("", 0, 0.0, False)),
        ("T400 4GB", ("", 4, 0.0, False)),
    ],
)
def test_names_of_cards(text: str, wanted: tuple[str, int, float, bool]) -> None:
    """Whole names, not what they begin with: an A6000 of the Ada generation is another card than an A6000."""
    assert card_named(text) == Card(*wanted, card_named(text).text)


def test_names_of_linear_maps() -> None:
    assert targets("c_attn,w1") == ("q", "k", "v", "up")
    assert setup(Row("x", "own", dict.fromkeys(HEADER, "") | FULL)).tokens == 16384


README = {
    # every value of truth/README.md by column -> how it is held: by development rows, or by a closed form (the test that has it)
    "method": "full lora qlora lora+emb: rows; adapter adapter_v2: closed forms in test_methods",
    "quant": "none nf4 nf4-dq gptq4 fp8_compute: rows; int8 gptq8: test_closed_forms",
    "base_dtype": "bf16 fp16 fp32: rows; fp32 under a 16-bit policy: test_closed_forms",
    "optimizer": "adamw paged_adamw decoupled_adamw: rows; adamw_fused adamw8bit paged_adamw8bit sgd: test_closed_forms",
    "seq_kind": "exact max_padded trunc_max variable: rows; variable(alpaca): test_closed_forms",
    "grad_ckpt": "none full ?: rows; selective selective_op selective_layer selective_core_attn: test_closed_forms",
    "loss_impl": "hf_fp32 hf_fp32_new hf_bf16 hf_autocast fused_ce fused_ce_new flce litgpt_chunk megatron_ce: rows; tt_ce "
    "tt_ce_compile tt_chunk titan_ce titan_ce_compile: test_closed_forms",
    "strategy": "single ddp zero2 zero3 fsdp fsdp_grad_op zero1+tp+pp: rows; hsdp gemini device_map +cp: test_closed_forms",
    "offload": "none params: rows; optim: test_closed_forms",
    "framework": "hf composer litgpt fsdp_qlora megatron: rows; others: traits in estimate.frameworks, each with its place",
}


@pytest.mark.parametrize("column", README)
def test_every_value_of_the_format_is_held_by_rows_or_by_a_closed_form(column: str) -> None:
    """A word that nothing exercises reaches code that no row ever ran."""
    held = README[column].replace(";", " ").replace(":", " ").split()
    wanted = {text.rstrip("?") or "?" for text in VALUES.get(column, "").split()} - {"int8"}
    missing = {text for text in wanted if text.split("+")[0] not in {one.split("+")[0] for one in held}}
    assert not missing or "others" in README[column], missing


def test_an_unknown_framework_and_card_have_wide_intervals() -> None:
    from benchmarks.throughput import interval

    usual = Row("x", "own", dict.fromkeys(HEADER, "") | FULL)
    strange = Row("x", "own", usual.cells | {"framework": "jax", "gpu": "TPUv9-96G", "gpu_mem_gb": "96"})
    narrow, wide = (high / low for low, high in (interval(row, "") for row in (usual, strange)))
    assert wide > 2 * narrow


@pytest.mark.parametrize("framework", VALUES["framework"].split())
@pytest.mark.parametrize(("world", "method"), [("1", "lora"), ("8", "full")])
def test_no_set_up_is_faster_or_slower_than_a_card_can_be(framework: str, world: str, method: str) -> None:
    """Between a tenth and 85 % of the 16-bit peak, for weights in fp32 under a 16-bit policy, compiled, whatever the code."""
    from benchmarks.throughput import estimate as rate

    cells = {"framework": framework, "world": world, "dp": world, "method": method, "lora_r": "16", "lora_targets": "all",
             "strategy": "fsdp" if world != "1" else "single", "loss_impl": "", "norm_impl": "", "optimizer": ""}  # fmt: skip
    if world != "1":
        cells |= {"base_dtype": "fp32", "train_dtype": "fp32", "autocast": "0"}
    row = Row("x", "own", dict.fromkeys(HEADER, "") | FULL | cells)
    one = row.setup
    a = one.architecture
    flop = (6 if method == "full" else 4) * (
        a.layers * a.active_layer_linear + a.embedding
    ) + 6 * a.layers * a.q * one.seq_len
    assert 0.1 < rate(row, "") * flop / (one.gpu.half * 1e12) < 0.85


def test_fits_counts_what_is_refused_and_what_is_called_safe(tmp_path: Path) -> None:
    """Both files at once; JSON for machines."""
    failed = FULL | {"id": "own-2", "outcome": "oom", "micro_batch": "64", "grad_ckpt": "none"}
    impossible = FULL | {"id": "own-3", "gpu_mem_gb": "24", "gpu": "RTX4090-24G"}
    found = json.loads(run("fits", str(write(tmp_path / "rows.csv", [FULL, failed, impossible])), "--json"))["total"]
    assert found["ran"]["rows"] == 2 and found["ran"]["refused"] == 1
    assert found["failed"] == {"rows": 1, "refused": 1, "safe": 0, "wrong": 0.0}
