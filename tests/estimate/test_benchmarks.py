"""The benchmarks' entry points: the JSON they promise, rows they cannot read, every value of the format."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.coverage import COVERAGE
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


CLOSED_FORMS = {
    "test_closed_forms": {
        "test_states_of_optimizers": "optimizer=adamw_fused optimizer=adamw8bit optimizer=paged_adamw8bit optimizer=sgd",
        "test_eight_bit_bases": "quant=int8 quant=gptq8",
        "test_losses_of_other_frameworks": "loss_impl=tt_ce loss_impl=tt_ce_compile loss_impl=tt_chunk loss_impl=titan_ce "
        "loss_impl=titan_ce_compile",
        "test_kinds_of_selective_checkpointing": "grad_ckpt=selective grad_ckpt=selective_op grad_ckpt=selective_layer "
        "grad_ckpt=selective_core_attn attn_impl=eager",
        "test_hybrid_sharding_shards_within_a_machine": "strategy=hsdp",
        "test_gemini_keeps_no_gradients_and_offloaded_states_are_off_the_card": "strategy=gemini offload=optim",
        "test_a_device_map_works_on_one_card_at_a_time": "strategy=device_map",
        "test_context_parallelism_splits_the_tokens_of_each_sequence": "strategy=cp",
        "test_interleaved_stages": "vp=2 vp=6",
        "test_lengths_of_alpaca_end_where_its_longest_row_does": "seq_kind=variable(alpaca)",
        "test_compiled_layers_keep_less_and_move_less": "compile=1",
    },
    "test_methods": {
        "test_llama_adapter_has_the_parameters_of_its_paper": "method=adapter method=adapter_v2",
        "test_fp16_and_bf16_weights_are_as_large": "train_dtype=fp16",
        "test_a_step_inside_backward_keeps_no_gradients": "opt_in_bwd=1",
    },
    "test_properties": {"test_every_kind_of_figure_has_its_place": "mem_kind=active_peak mem_kind=capacity"},
    "test_benchmarks": {
        "test_no_set_up_is_faster_or_slower_than_a_card_can_be": "framework=torchtune framework=torchtitan framework=xtuner "
        "framework=colossal framework=automodel framework=fms-fsdp",
        "test_open_cells_are_what_the_framework_does": "attn_impl=?",
    },
}
"""Module and test -> the values of the format that no development row has, and whose formula it checks."""


def covered_by_tests() -> set[tuple[str, str]]:
    pairs = set()
    for module, tests in CLOSED_FORMS.items():
        for test, values in tests.items():
            assert callable(getattr(import_module(f"tests.estimate.{module}"), test)), test
            pairs |= {(column, value) for column, _, value in (text.partition("=") for text in values.split())}
    return pairs


@pytest.mark.parametrize("column", VALUES)
def test_every_value_of_the_format_has_rows_or_a_closed_form(column: str) -> None:
    """A value that nothing exercises reaches code that no row ever ran. coverage.json: `python -m benchmarks.coverage`."""
    rows = json.loads(COVERAGE.read_text(encoding="utf-8"))
    texts = [text.rstrip("?") or "?" for text in VALUES[column].split()]
    wanted = {part for text in texts for part in (text.split("+") if column == "strategy" else [text])}
    by_test = {value for name, value in covered_by_tests() if name == column}
    with_rows = {value for value, count in rows.get(column, {}).items() if count}
    assert not wanted - with_rows - by_test
    assert not by_test & with_rows, "rows hold it; the list is for what has none"


@pytest.mark.parametrize(("framework", "attention"), [("megatron", "flash"), ("torchtitan", "flash"), ("hf", "sdpa")])
def test_open_cells_are_what_the_framework_does(framework: str, attention: str) -> None:
    """`?` and an empty cell are one table of defaults, not the most expensive reading."""
    for cell in ("", "?"):
        assert (
            Row(
                "x", "own", dict.fromkeys(HEADER, "") | FULL | {"framework": framework, "attn_impl": cell}
            ).setup.attention
            == attention
        )


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
    from benchmarks.throughput import share_of_peak

    cells = {"framework": framework, "world": world, "dp": world, "method": method, "lora_r": "16", "lora_targets": "all",
             "strategy": "fsdp" if world != "1" else "single", "loss_impl": "", "norm_impl": "", "optimizer": ""}  # fmt: skip
    if world != "1":
        cells |= {"base_dtype": "fp32", "train_dtype": "fp32", "autocast": "0"}
    row = Row("x", "own", dict.fromkeys(HEADER, "") | FULL | cells)
    assert 0.1 < share_of_peak(row) < 0.85


def test_fits_counts_what_is_refused_and_what_is_called_safe(tmp_path: Path) -> None:
    """Both files at once; JSON for machines."""
    failed = FULL | {"id": "own-2", "outcome": "oom", "micro_batch": "64", "grad_ckpt": "none"}
    impossible = FULL | {"id": "own-3", "gpu_mem_gb": "24", "gpu": "RTX4090-24G"}
    found = json.loads(run("fits", str(write(tmp_path / "rows.csv", [FULL, failed, impossible])), "--json"))["total"]
    assert found["ran"]["rows"] == 2 and found["ran"]["refused"] == 1
    assert found["failed"] == {"rows": 1, "refused": 1, "safe": 0, "wrong": 0.0}
