"""Answers that a model writes while it trains: hand-worked bytes of keys and values, frozen models, gathered weights, vLLM."""

from __future__ import annotations

import pytest

from ftdsl.estimate import loss, rollout
from ftdsl.estimate.architecture import known
from ftdsl.estimate.cpu import Processor, spent
from ftdsl.estimate.interval import weak
from ftdsl.estimate.memory import GIB, Memory, memory
from ftdsl.estimate.setup import Setup
from ftdsl.estimate.time import time
from ftdsl.record import replace

LLAMA, SMALL = known("Llama-2-7B"), known("Llama-3-8B")
LORA = Setup(
    LLAMA, method="lora", lora_rank=8, lora_targets=("q",), seq_len=2048, loss="trl_tiles", micro_batch=2, accumulate=4
)
GRPO = replace(LORA, rollout=1024)


def written(found: Memory) -> dict[str, float]:
    return next(phase.terms for phase in found.phases if phase.name == "generation")


def test_keys_and_values_of_all_answers_of_a_step() -> None:
    """A token of Llama-2-7B keeps 2 x 2 bytes x 4096 in each of 32 layers, half a MiB: 2 x 4 rows of 2048 tokens take 8 GiB."""
    assert written(memory(GRPO))["keys and values"] == 8 * GIB
    assert written(memory(replace(GRPO, accumulate=2)))["keys and values"] == 4 * GIB, (
        "all of a step are written at once"
    )
    grouped = replace(GRPO, architecture=replace(LLAMA, kv_heads=8))
    assert written(memory(grouped))["keys and values"] == 2 * GIB


def test_layers_with_a_window_keep_its_tokens() -> None:
    half = replace(GRPO, architecture=replace(LLAMA, windowed=16, window=512))
    assert written(memory(half))["keys and values"] == 8 * GIB * (16 * 2048 + 16 * 512) / (32 * 2048)


def test_logits_of_the_last_token_alone() -> None:
    assert written(memory(GRPO))["logits"] == 8 * 32000 * 14
    assert written(memory(replace(GRPO, nucleus=True)))["logits"] == 8 * 32000 * (14 + 28)


def test_no_answers_no_phase() -> None:
    assert "generation" not in {phase.name for phase in memory(LORA).phases}
    assert time(LORA).terms["generation"] == 0


def test_zero3_gathers_the_whole_model_to_write() -> None:
    sharded = replace(GRPO, strategy="zero3", data=8)
    weights = 2 * LLAMA.params + 2 * 8 * (4096 + 4096) * 32 * 2  # the base and its adapter of 32 layers, in fp32
    assert written(memory(sharded))["gathered weights"] == pytest.approx(weights * 7 / 8, rel=1e-3)


def test_vllm_keeps_its_share_in_every_phase() -> None:
    served = replace(GRPO, vllm=True, served=0.3, card="h100", card_memory=80)
    found = memory(served)
    assert "generation" not in {phase.name for phase in found.phases}
    assert {phase.terms["vLLM"] for phase in found.phases} == {0.3 * 80 * GIB}
    assert time(served).terms["generation"] == 0, "its speed is not known"


def test_frozen_models_of_other_sizes() -> None:
    """A teacher is sharded as the model is, judges are whole; both in the dtype of the base."""
    one = replace(GRPO, teachers=(SMALL,), judges=(SMALL, SMALL))
    assert memory(one).peak.terms["frozen models"] == 3 * 2 * SMALL.params
    wide = replace(one, reference_dtype="fp32", strategy="fsdp", data=4)
    assert memory(wide).peak.terms["frozen models"] == pytest.approx(4 * SMALL.params / 4 + 2 * 4 * SMALL.params)
    assert rollout.forwards(replace(one, extra_forwards=1.0)) == 1 + 3 * SMALL.params / LLAMA.params


def test_a_tile_of_logits_does_not_grow_with_the_vocabulary() -> None:
    """4096 tokens x 32000 entries in 16 bits, the head's part in 16 bits, fp32 gradients of hidden states; the head is frozen."""
    tile = 4096 * 32000 * 2 + 32000 * 4096 * 2 + 4096 * 4096 * 4
    assert loss.loss_bytes(LORA) == tile
    assert loss.loss_bytes(replace(LORA, micro_batch=4)) == tile + 4096 * 4096 * 4, (
        "twice the tokens: hidden states alone"
    )
    scored = 2048 * 32000 * 2 + 32000 * 4096 * 2 + 2048 * 4096 * 4
    assert loss.loss_bytes(GRPO) == scored, "of a row the answer alone is scored"
    long = replace(LORA, architecture=replace(LLAMA, vocab=128000))
    assert loss.loss_bytes(long) == 4096 * 32768 * 2 + 32768 * 4096 * 2 + 4096 * 4096 * 4
    full = replace(LORA, method="full")
    assert loss.loss_bytes(full) == tile + 32000 * 4096 * 4
    assert loss.loss_bytes(replace(LORA, loss="score")) == 0


def test_seconds_of_writing() -> None:
    """Each of 1024 tokens reads 13.5 GB of weights and a cache of 6 GiB (its mean): no less than that at 2 TB/s."""
    least = 1024 * (2 * LLAMA.params + 6 * GIB) / (2.039e12)
    found = time(GRPO)
    assert least < found.terms["generation"] < 5 * least
    assert found.step > time(LORA).step
    assert time(replace(GRPO, rollout_share=0.25)).terms["generation"] == pytest.approx(found.terms["generation"] / 4)
    assert "rollouts" in weak(GRPO)


def test_writing_on_a_cpu() -> None:
    plain = replace(LORA, base_dtype="fp32", autocast=False, card="", micro_batch=1, accumulate=1, seq_len=64)
    written = replace(plain, rollout=32)
    processor = Processor()
    more = spent(written, 1, processor).writing
    reads = 32 * (4 * LLAMA.params + 4 * 2 * 4096 * 32 * 48) / processor.stream
    products = 2 * (LLAMA.active_layer_linear * 32 + LLAMA.embedding) * 64 / processor.rate
    assert more == pytest.approx(reads + products, rel=1e-6)
    assert spent(plain, 1, processor).writing == 0
