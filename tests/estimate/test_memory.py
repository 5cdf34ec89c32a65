"""The physics of memory: exact cases from published measurements, and what must hold for every set-up."""

from __future__ import annotations

import pytest

from ftdsl import catalog
from ftdsl.estimate.architecture import known
from ftdsl.estimate.memory import memory
from ftdsl.estimate.setup import Setup
from ftdsl.record import replace

MISTRAL = known("mistralai/Mistral-7B-v0.1")
PURE_BF16 = Setup(MISTRAL, train_dtype="bf16", norms="fused", loss="flce", seq_len=4096, micro_batch=4)


@pytest.mark.parametrize("name", catalog.models())
def test_sizes_give_the_published_total(name: str) -> None:
    model = known(name)
    assert model is not None
    assert model.params == catalog.models()[name]["params"]


def test_pure_bf16_adamw_is_ten_bytes_a_parameter() -> None:
    """72.43e9 measured for Mistral-7B (fms-acceleration, fms-241): foreach makes one temporary as large as the weights."""
    found = memory(PURE_BF16)
    assert found.peak.name == "step"
    assert found.allocated == pytest.approx(72.42e9, rel=2e-4)


def test_a_fused_step_has_no_temporary() -> None:
    assert memory(replace(PURE_BF16, optimizer="adamw_fused")).allocated < memory(PURE_BF16).allocated


def test_the_peak_is_a_phase_and_not_a_sum() -> None:
    found = memory(PURE_BF16)
    assert found.allocated == max(phase.total for phase in found.phases)


@pytest.mark.parametrize("name", ["OPT-350m", "Step-3", "Kimi-Linear-48B-A3B"])
def test_a_model_with_fewer_parameters_than_counted_keeps_some_on_each_card(name: str) -> None:
    """What the count has too many is split with the matrices it is of: a card never keeps less than nothing."""
    architecture = known(name)
    assert architecture is not None and architecture.extra < 0
    one = Setup(architecture, method="lora", quant="nf4", lora_rank=1, strategy="fsdp", data=2)
    for tensor in (1, 2, 4, 8):
        phases = memory(replace(one, tensor=tensor)).phases
        assert all(size >= 0 for phase in phases for size in phase.terms.values()), tensor
