"""What must hold for every set-up, whatever the constants are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdsl import catalog
from ftdsl.estimate import constants, layer
from ftdsl.estimate.architecture import known
from ftdsl.estimate.disk import checkpoint
from ftdsl.estimate.fit import fit
from ftdsl.estimate.loss import HELD
from ftdsl.estimate.memory import memory
from ftdsl.estimate.setup import CHECKPOINTING, KINDS, QUANTS, STRATEGIES, Setup
from ftdsl.estimate.time import time
from ftdsl.record import replace

DENSE = [name for name, model in catalog.models().items() if not model.get("experts")]


@st.composite
def setups(draw: Any) -> Setup:
    """Any set-up a recipe could come to, dense models."""
    method = draw(st.sampled_from(["full", "lora"]))
    quant = draw(st.sampled_from(QUANTS)) if method == "lora" else "none"
    return Setup(
        known(draw(st.sampled_from(DENSE))),
        method=method,
        quant=quant,
        lora_rank=draw(st.integers(1, 128)) if method == "lora" else 0,
        lora_targets=("q", "k", "v", "o") if method == "lora" else (),
        base_dtype="bf16" if quant != "none" else draw(st.sampled_from(["bf16", "fp32"])),
        train_dtype=draw(st.sampled_from(["bf16", "fp32"])),
        optimizer=draw(st.sampled_from(["adamw", "adamw_fused", "adamw8bit", "paged_adamw", "sgd"])),
        seq_len=draw(st.integers(64, 8192)),
        micro_batch=draw(st.integers(1, 16)),
        accumulate=draw(st.integers(1, 16)),
        checkpointing=draw(st.sampled_from(CHECKPOINTING)),
        attention=draw(st.sampled_from(["flash", "sdpa", "eager"])),
        loss=draw(st.sampled_from(sorted(HELD))),
        norms=draw(st.sampled_from(["eager", "fused"])),
        compile=draw(st.booleans()),
        strategy=draw(st.sampled_from(STRATEGIES)),
        data=draw(st.sampled_from([1, 2, 8, 32])),
        tensor=draw(st.sampled_from([1, 2, 8])),
        card=draw(st.sampled_from(["a100", "h100", "rtx4090", "v100"])),
    )


CALM = settings(max_examples=60, deadline=None)


@CALM
@given(setups())
def test_the_peak_is_the_largest_phase_and_no_term_is_negative(one: Setup) -> None:
    found = memory(one)
    assert found.allocated == max(phase.total for phase in found.phases)
    assert all(size >= 0 for phase in found.phases for size in phase.terms.values())


@CALM
@given(setups(), st.sampled_from(["seq_len", "micro_batch"]))
def test_more_tokens_never_need_less_memory_or_time(one: Setup, key: str) -> None:
    more = replace(one, **{key: 2 * getattr(one, key)})
    assert memory(more).allocated >= memory(one).allocated
    assert time(more).step >= time(one).step


@CALM
@given(setups())
def test_more_of_tensor_parallelism_never_needs_more(one: Setup) -> None:
    assert memory(replace(one, tensor=2 * one.tensor)).allocated <= memory(one).allocated


@CALM
@given(setups())
def test_sharded_over_more_cards_never_needs_more(one: Setup) -> None:
    sharded = replace(one, strategy="fsdp", data=max(2, one.data))
    assert memory(replace(sharded, data=2 * sharded.data)).allocated <= memory(sharded).allocated


@CALM
@given(setups())
def test_a_higher_stage_of_zero_keeps_no_more(one: Setup) -> None:
    """Weights, gradients and states; what ZeRO gathers for a moment is another matter."""
    stages = [replace(one, strategy=f"zero{n}", data=8) for n in (1, 2, 3)]
    kept = [sum(memory(stage).phases[-1].terms[k] for k in ("weights", "gradients", "optimizer")) for stage in stages]
    assert kept == sorted(kept, reverse=True)


@CALM
@given(setups())
def test_checkpointing_keeps_less_and_takes_longer(one: Setup) -> None:
    one = replace(one, strategy="single")  # under FSDP1 frozen weights hold the checkpoints twice
    if one.optimizer.startswith(
        "paged"
    ):  # whose states travel where memory runs out: recomputing may save more than it costs
        one = replace(one, optimizer="adamw")
    without, with_it = replace(one, checkpointing="none"), replace(one, checkpointing="full")
    again = layer.boundary(one) * one.tokens  # the input of the layer that is computed again
    assert memory(with_it).allocated <= memory(without).allocated * 1.001 + again
    assert time(with_it).step >= time(without).step


@CALM
@given(setups())
def test_every_kind_of_figure_has_its_place(one: Setup) -> None:
    found = memory(one)
    assert found.allocated <= found.of("reserved_peak") or found.of("reserved_peak") == one.capacity
    assert found.of("reserved_peak") <= found.of("nvidia_smi")
    assert all(found.of(kind) > 0 for kind in KINDS)


@CALM
@given(setups())
def test_what_needs_more_than_the_card_does_not_fit(one: Setup) -> None:
    found = fit(one)
    if found.memory.allocated > one.capacity:
        assert not found.fits


@CALM
@given(setups())
def test_a_checkpoint_to_resume_from_is_larger(one: Setup) -> None:
    assert checkpoint(one) >= checkpoint(one, resumable=False) > 0


def test_a_large_model_on_a_pipeline_holds_less_a_card() -> None:
    one = Setup(known("Llama-3-70B"), strategy="zero1", tensor=8, accumulate=16)
    assert memory(replace(one, pipeline=4)).allocated < memory(one).allocated


def test_constants_can_be_refitted_and_come_back() -> None:
    one = Setup(known("Llama-3-8B"), seq_len=256)
    before = time(one).step
    with constants.refitted(launch=1.0):
        assert time(one).step > before
    assert time(one).step == before


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "qwen/qwen3-8b", "Qwen3-8B"])
def test_models_are_known_by_hub_id_and_name(name: str) -> None:
    model = known(name)
    assert model is not None
    assert model.qk_norm
