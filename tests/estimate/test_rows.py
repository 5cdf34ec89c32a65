"""Rows nobody has seen: none ends the run, none is guessed at, and what is taken for an open cell is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.memory import estimate as gib
from benchmarks.rows import Row, setup, taken
from benchmarks.scoring import assumed, score, unread
from benchmarks.throughput import estimate as rate
from ftdsl import catalog
from ftdsl.catalog.cards import card_named
from ftdsl.record import replace
from tests.estimate.test_benchmarks import FULL, HEADER, VALUES, run, write

ODD = ["", "?", "nan", "-1", "0", "1e9", "none", "ja", "bf16?", "yes", "q,k;v", "64/8", " 4096 "]


def row(**cells: str) -> Row:
    return Row(cells.get("id", "x"), "own", dict.fromkeys(HEADER, "") | FULL | cells)


@pytest.mark.parametrize(("key", "value"), [("method", "ia3"), ("quant", "awq4"), ("optimizer", "shampoo"),
    ("strategy", "zero9"), ("grad_ckpt", "some"), ("loss_impl", "mine"), ("attn_impl", "ring"),
    ("base_dtype", "int3"), ("tp", "3")])  # fmt: skip
def test_a_word_without_an_estimate_is_an_error_and_no_guess(key: str, value: str) -> None:
    more = {"world": "8", "dp": ""} if key == "tp" else {}
    scored = score([row(**more, **{key: value})], "eval_mem", "mem_gib", "mem_kind", gib)
    assert scored[0].estimated is None and scored[0].error == 1.0
    assert unread(scored).startswith("  x: ")


def test_nothing_in_a_row_ends_the_run() -> None:
    """Any cell may hold anything."""
    dice = random.Random(6)
    rows = []
    for _ in range(400):
        cells = {
            key: dice.choice([*ODD, *VALUES.get(key, FULL.get(key, "x")).split()]) for key in dice.sample(HEADER, 6)
        }
        rows.append(row(**cells | {"eval_mem": "1", "eval_tput": "1"}))
    for flag, target, kind, estimate in (
        ("eval_mem", "mem_gib", "mem_kind", gib),
        ("eval_tput", "tok_s_gpu", "tput_unit", rate),
    ):
        scored = score(rows, flag, target, kind, estimate)
        assert len(scored) == 400
        assert all(one.estimated is None or one.estimated > 0 for one in scored)
        assert all(one.error >= 0 for one in scored)


def test_what_is_taken_for_an_open_cell_is_said(tmp_path: Path) -> None:
    open_ended = row(grad_ckpt="?", optimizer="", id="own-9")
    assert taken(open_ended) == {"grad_ckpt": "none", "optimizer": "adamw"}
    assert "grad_ckpt = none: 1 rows" in assumed(score([open_ended], "eval_mem", "mem_gib", "mem_kind", gib))
    text = run("memory", str(write(tmp_path / "rows.csv", [FULL, open_ended.cells])))
    assert "taken where rows say nothing" in text


@pytest.mark.parametrize("name", catalog.models())
def test_every_model_of_the_catalogue_has_estimates(name: str) -> None:
    """Vocabularies of 256,000, one key head for all queries, tied heads, mixtures: whatever is in models.toml."""
    one = row(model=name, world="8", dp="8", strategy="fsdp")
    assert 0 < gib(one, "allocated_peak") < 4000 and rate(one, "") > 0
    adapted = row(model=name, method="qlora", quant="nf4-dq", lora_r="16", lora_targets="q,v")
    assert gib(adapted, "allocated_peak") < gib(row(model=name), "allocated_peak")


NAMES = ("A100-SXM4-80GB, NVIDIA A100-PCIE-40GB, H100-95G (500W), GeForce RTX 4090, RTX A6000, 910B-64G, V100-SXM2-32GB, "
         "T4-16G, MI300X-192G, H100 NVL 94GB, RTX3090-24G, A10-24G, H800, L4-24G")  # fmt: skip


@pytest.mark.parametrize("text", NAMES.split(", "))
def test_cards_by_the_names_people_write(text: str) -> None:
    assert card_named(text).name in catalog.gpus()


def test_an_unknown_card_is_taken_for_a_usual_one_and_said_to_be_unknown() -> None:
    strange = row(gpu="TPUv9-96G", gpu_mem_gb="96")
    assert gib(strange, "allocated_peak") > 0 and rate(strange, "") > 0
    assert setup(strange).unknown == ("card",)


@pytest.mark.parametrize(("framework", "checkpointing"), [("megatron", "none"), ("torchtune", "full"), ("torchtitan",
    "selective_op"), ("hf", "none"), ("jax", "none")])  # fmt: skip
def test_an_open_cell_is_what_the_framework_does_when_nobody_says(framework: str, checkpointing: str) -> None:
    assert setup(row(framework=framework, grad_ckpt="?", micro_batch="1")).checkpointing == checkpointing


def test_an_unknown_framework_is_taken_to_do_the_least_that_fits() -> None:
    """Sixteen sequences without checkpointing are more than the card has: neither the fastest nor the dearest in silence."""
    found = setup(row(framework="jax", grad_ckpt="?", method="lora", lora_r="8", lora_targets="all", micro_batch="16"))
    assert found.checkpointing != "none" and "grad_ckpt" in found.unknown


def test_a_row_of_the_format_is_the_set_up_it_names() -> None:
    one = setup(
        row(
            strategy="fsdp+tp",
            world="64",
            tp="8",
            dp="",
            gpu="H100-80G (500W)",
            norm_impl="fused",
            quant="nf4",
            method="lora",
        )
    )
    assert (one.data, one.tensor, one.power, one.fused_adapters) == (8, 8, 500.0, True)


def test_a_mark_behind_a_value_changes_no_reading() -> None:
    """Any cell may be inferred: numbers, flags and names are read without the mark, which widens the interval."""
    keys = [
        key for key in FULL if key not in ("id", "source", "eval_mem", "eval_tput", "outcome", "notes") and FULL[key]
    ]
    plain, marked = setup(row()), setup(row(**{key: f"{FULL[key]}?" for key in keys}))
    assert replace(marked, unknown=()) == plain and set(marked.unknown) > {"grad_ckpt", "optimizer"}
