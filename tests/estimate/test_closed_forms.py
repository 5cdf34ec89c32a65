"""Values of the truth format that no development row has, each against what papers or code give in closed form."""

from __future__ import annotations

import pytest

from ftdsl.estimate import compute, layer, loss, sharding, states, weights
from ftdsl.estimate.architecture import Architecture, known
from ftdsl.estimate.interval import deviation_of
from ftdsl.estimate.memory import memory
from ftdsl.estimate.setup import Setup
from ftdsl.estimate.time import time
from ftdsl.record import replace

MISTRAL, LLAMA8, GPT = (known(name) for name in ("Mistral-7B", "Llama-3-8B", "GPT3-175B"))
assert MISTRAL is not None and LLAMA8 is not None and GPT is not None
POLICY = Setup(LLAMA8, base_dtype="fp32", train_dtype="fp32", autocast=False, strategy="fsdp", data=8, framework="torchtitan",
               optimizer="adamw_fused", loss="titan_ce", card="h100", card_memory=80)  # fmt: skip
"""fp32 weights whose arithmetic is in 16 bit because FSDP casts what it gathers."""


def static(setup: Setup) -> float:
    terms = memory(setup).phases[0].terms
    return terms["weights"] + terms["optimizer"]


def test_fp32_weights_under_fsdps_policy_compute_in_sixteen_bits() -> None:
    """(4 + 8) bytes over N cards stay, 2 are gathered, and an activation has 2: as the same in bf16 but for the shards."""
    assert static(POLICY) == pytest.approx(12 * LLAMA8.params / 8, rel=1e-3)
    half = replace(POLICY, base_dtype="bf16", train_dtype="bf16")
    for term in ("gathered weights", "checkpoints", "logits"):
        assert memory(POLICY).phases[0].terms[term] == memory(half).phases[0].terms[term]
    assert time(POLICY).step < 1.2 * time(half).step
    assert replace(POLICY, strategy="ddp").compute_bytes == 4 and replace(POLICY, arithmetic="fp32").compute_bytes == 4


@pytest.mark.parametrize(("stages", "virtual"), [(8, 1), (8, 2), (16, 6)])
def test_interleaved_stages(stages: int, virtual: int) -> None:
    """arXiv:2205.05198, 4.2.3: the first stage holds L (1 + (p - 1) / (p v)) layers; arXiv:2104.04473, 2.2: the bubble is
    (p - 1) / (m v) of a step."""
    one = Setup(GPT, framework="megatron", strategy="zero1", master=True, train_dtype="bf16", autocast=False, norms="fused",
                loss="megatron_ce", checkpointing="none", pipeline=stages, virtual=virtual, accumulate=64)  # fmt: skip
    layers = -(-GPT.layers // stages)
    a_layer = layer.kept(one) * one.tokens
    more = 1 + (stages - 1) / (stages * virtual) if virtual > 1 else 1.0
    assert memory(one).phases[0].terms["checkpoints"] == pytest.approx(a_layer * layers * stages * more)
    plain, longer = (replace(one, accumulate=count) for count in (64, 128))
    micro = (time(longer).step - time(plain).step) / 64
    bubble = time(plain).step - 64 * micro
    assert bubble == pytest.approx((stages - 1) / virtual * micro, rel=0.2)


@pytest.mark.parametrize(
    ("optimizer", "bytes_a_weight"),
    [
        ("adamw8bit", 2 + 2 * 4 / 256),
        ("sgd", 0.0),
        ("paged_adamw", 0.0),
        ("paged_adamw8bit", 0.0),
        ("adamw_fused", 4.0),
    ],
)
def test_states_of_optimizers(optimizer: str, bytes_a_weight: float) -> None:
    """bf16 weights: two moments of 2 bytes, or of one with an fp32 scale for 256; paged ones are not the allocator's."""
    one = Setup(MISTRAL, train_dtype="bf16", optimizer=optimizer)
    part = weights.share(one)
    assert states.state_bytes(one, part) == pytest.approx(bytes_a_weight * MISTRAL.params)
    assert states.step_bytes(one, part) == 0.0


@pytest.mark.parametrize(("quant", "bytes_a_weight"), [("int8", 1 + 4 / 4096), ("gptq8", 1 + 2 / 128 + 1 / 128)])
def test_eight_bit_bases(quant: str, bytes_a_weight: float) -> None:
    """LLM.int8(): a scale for each row (arXiv:2208.07339); GPTQ: a 16-bit scale and a zero for each group of 128."""
    one = Setup(MISTRAL, method="lora", lora_rank=8, lora_targets=("q",), quant=quant)
    whole, bare = (
        weights.weight_bytes(one, weights.share(one)),
        weights.weight_bytes(replace(one, quant="none"), weights.share(one)),
    )
    linear = MISTRAL.layers * MISTRAL.layer_linear
    assert bare - whole == pytest.approx((2 - bytes_a_weight) * linear)


@pytest.mark.parametrize(
    ("name", "bytes_a_logit"),
    [
        # fp32 logits of `output(h).float()`; at the backward pass log-softmax, its gradient, that of the logits (torchtune)
        ("tt_ce", 4 + 4 + 4), ("tt_ce_compile", 4 + 4),
        # 16-bit logits of all chunks, fp32 log-softmax of all, a chunk's fp32 copy: an eighth of 4
        ("tt_chunk", 2 + 4 + 4 / 8),
        ("titan_ce", 4 + 4 + 4), ("titan_ce_compile", 2 + 2 + 0.5),
        # 16-bit logits, fp32 copy that becomes softmax and gradient in place, 16-bit gradient (Megatron)
        ("megatron_ce", 2 + 4 + 2),
    ],
)  # fmt: skip
def test_losses_of_other_frameworks(name: str, bytes_a_logit: float) -> None:
    one = Setup(LLAMA8, loss=name, seq_len=4096, framework="torchtitan")
    assert loss.loss_bytes(one) == pytest.approx(bytes_a_logit * 4096 * LLAMA8.vocab)
    assert loss.loss_bytes(replace(one, tensor=8)) == pytest.approx(loss.loss_bytes(one) / 8), "vocabularies are split"


def test_kinds_of_selective_checkpointing() -> None:
    """By layer half of them are whole; by operation inputs and every second product's output (torchtitan); Megatron's leaves out
    the scores alone, 5 a s^2 of 34 s b h + 5 a s^2 (arXiv:2205.05198, 4)."""
    titan = replace(POLICY, seq_len=2048, checkpointing="none")
    whole, none = layer.kept(titan), layer.boundary(titan)
    assert layer.kept(replace(titan, checkpointing="selective_layer")) == pytest.approx((whole + none) / 2)
    by_operation = layer.kept(replace(titan, checkpointing="selective_op"))
    assert none < by_operation < whole and by_operation == layer.kept(replace(titan, checkpointing="selective"))
    eager = Setup(GPT, framework="megatron", attention="eager", norms="fused", checkpointing="none", seq_len=2048)
    scores = layer.kept(eager) - layer.kept(replace(eager, checkpointing="selective"))
    assert scores == pytest.approx(5 * GPT.heads * 2048, rel=0.01)
    assert compute.attention(replace(eager, attention="flash", checkpointing="selective")) > compute.attention(
        replace(eager, attention="flash", checkpointing="selective_op")
    )


def test_hybrid_sharding_shards_within_a_machine() -> None:
    one = replace(POLICY, strategy="hsdp", data=32, node=8)
    assert static(one) == pytest.approx(static(replace(POLICY, data=8)))


def test_gemini_keeps_no_gradients_and_offloaded_states_are_off_the_card() -> None:
    one = Setup(
        LLAMA8, base_dtype="bf16", train_dtype="bf16", master=True, strategy="gemini", data=8, framework="colossal"
    )
    assert weights.gradient_bytes(one, weights.share(one)) == 0
    moved = replace(one, strategy="zero2", offload="optim")
    assert memory(moved).phases[-1].terms["optimizer"] == 0 and memory(moved).phases[-1].terms["gradients"] == 0


def test_a_device_map_works_on_one_card_at_a_time() -> None:
    one = Setup(
        LLAMA8, method="lora", lora_rank=8, lora_targets=("q", "v"), strategy="device_map", pipeline=4, accumulate=2
    )
    alone = replace(one, strategy="single", pipeline=1)
    assert time(one).step == pytest.approx(time(alone).step, rel=0.15)


def test_context_parallelism_splits_the_tokens_of_each_sequence() -> None:
    one = replace(POLICY, data=2, context=4, seq_len=8192)
    assert one.tokens == 2048 and one.weight_shards == 8


def test_lengths_of_alpaca_end_where_its_longest_row_does() -> None:
    assert Setup(LLAMA8, seq_kind="variable(alpaca)", seq_len=4096).tokens == 1024


def test_time_goes_by_the_mean_length_of_alpaca() -> None:
    """Memory by the longest batch, time by the average one, whatever the limit is."""
    one = Setup(LLAMA8, seq_kind="variable(alpaca)", seq_len=4096, micro_batch=2, card="a100")
    assert time(one).tokens_per_gpu == pytest.approx(time(replace(one, seq_len=512)).tokens_per_gpu)
    assert time(one).step < 0.5 * time(replace(one, seq_kind="max_padded", seq_len=1024)).step
    short = replace(one, seq_len=100)
    assert time(short).step == pytest.approx(time(replace(short, seq_kind="variable")).step)
    assert Setup(LLAMA8, seq_kind="trunc_max", seq_len=1000).tokens == 930


def test_sequence_parallelism_splits_norms_too() -> None:
    """arXiv:2205.05198, 4.2.2: 34 s b h / t with it; without, 10 s b h of it stay whole."""
    one = Setup(GPT, framework="megatron", norms="fused", checkpointing="none", tensor=8, seq_len=2048)
    assert layer.kept(one) * 8 == pytest.approx(layer.kept(replace(one, tensor=1)), rel=0.01)


def test_experts() -> None:
    """Expert parallelism divides routed weights alone; a token meets its experts and the shared ones."""
    a = known("DeepSeek-V3")
    assert a is not None
    one = Setup(a, framework="megatron", strategy="zero1", data=8)
    all_of_them, split = weights.share(one), weights.share(replace(one, expert=8))
    assert all_of_them.linear - split.linear == pytest.approx(a.layers * a.routed_params * 7 / 8)
    assert a.active_ffn == pytest.approx((58 * (8 + 1) * 2048 + 3 * 18432) / 61)


def test_latent_attention() -> None:
    """arXiv:2412.19437, 2.1.1: 187 million weights of attention a layer of DeepSeek-V3."""
    a = known("DeepSeek-V3")
    assert a is not None and a.attention_params == pytest.approx(187.1e6, rel=0.001)


def test_compiled_layers_keep_less_and_move_less() -> None:
    one = replace(POLICY, checkpointing="none", norms="eager")
    assert layer.kept(replace(one, compile=True)) < 0.8 * layer.kept(one)
    assert compute.elementwise(replace(one, compile=True)) < 0.7 * compute.elementwise(one)


@pytest.mark.parametrize("a", [LLAMA8, MISTRAL])
def test_compiled_layers_keep_what_products_read(a: Architecture) -> None:
    """The partitioner works pointwise operations out again, not what a product of the backward pass reads: outputs of both norms
    and of silu(gate) * up, where the maps behind them are trained (torch, _functorch/partitioners.py).
    """
    trained = Setup(a, checkpointing="none", norms="eager", compile=True, framework="torchtune", seq_len=2048)
    frozen = replace(trained, method="lora")
    assert layer.saved(trained) - layer.saved(frozen) == pytest.approx(2 * (2 * a.hidden + a.active_ffn))


@pytest.mark.parametrize("chunks", [8])
def test_chunks_of_logits_make_way_for_their_gradients(chunks: int) -> None:
    """Compiled, a chunk's logits are all that its loss keeps."""
    one = Setup(LLAMA8, loss="tt_chunk", compile=True, seq_len=4096, framework="torchtune")
    assert loss.loss_bytes(one) == pytest.approx((2 + 2 / chunks) * 4096 * LLAMA8.vocab)
    assert loss.loss_bytes(one) < 0.4 * loss.loss_bytes(replace(one, compile=False))


def test_fp8_products_are_faster_by_what_was_measured() -> None:
    """1402.6 against 794.5 TFLOP/s on an H100 (stas00/ml-engineering)."""
    plain, eighth = compute.peak(POLICY), compute.peak(replace(POLICY, quant="fp8_compute"))
    assert eighth / plain == pytest.approx(1402.6 / 794.5, rel=0.01)


def test_full_shards_leave_a_root_unit_and_two_layers_whole() -> None:
    whole = sharding.gathered(POLICY, 0.0)
    assert whole == pytest.approx(2 * 2 * LLAMA8.embedding + 2 * 2 * LLAMA8.layer_params, rel=0.01)


def test_paged_states_that_do_not_fit_travel() -> None:
    """8B in full with paged fp32 states on a card of 24 GB: 64 GB of them cross PCIe to and fro in a step."""
    a: Architecture = LLAMA8
    one = Setup(a, base_dtype="bf16", train_dtype="bf16", optimizer="paged_adamw", card="rtx4090", card_memory=24)
    assert time(one).step - time(replace(one, card_memory=1000)).step > 2 * 0.5 * 4 * a.params / 32e9 * 0.8


@pytest.mark.parametrize(("kind", "wider"), [("allocated_peak", False), ("reserved_peak", True), ("nvidia_smi", True)])
def test_lengths_below_a_limit_leave_blocks_behind(kind: str, wider: bool) -> None:
    """What tensors need is known as well as with rows of one length, what the allocator holds is not."""
    rows = Setup(LLAMA8, method="lora", seq_len=2048, card="a100")
    spread = [deviation_of(replace(rows, seq_kind=lengths), kind) for lengths in ("exact", "limit")]
    assert (spread[1] > 2 * spread[0]) is wider
