"""The terms of each way of training: closed forms of the papers, and what the engines' code keeps."""

from __future__ import annotations

import pytest

from ftdsl.estimate import comms, layer, states, trained, weights
from ftdsl.estimate.architecture import Architecture, known
from ftdsl.estimate.fit import fit
from ftdsl.estimate.interval import weak
from ftdsl.estimate.memory import GIB, Memory, memory
from ftdsl.estimate.setup import Setup
from ftdsl.estimate.time import time
from ftdsl.record import replace

LLAMA = known("Llama-2-7B")
ALL = ("q", "k", "v", "o", "gate", "up", "down")
LORA = Setup(LLAMA, method="lora", lora_rank=8, lora_targets=ALL, seq_len=2048)
FULL = Setup(LLAMA, base_dtype="fp32", optimizer="adamw_fused", seq_len=2048)


def term(found: Memory, name: str, phase: str) -> float:
    return next(one for one in found.phases if one.name == phase).terms.get(name, 0.0)


def state_gib(one: Setup) -> float:
    return states.state_bytes(one, weights.share(one)) / GIB


def test_autocasts_copies_live_as_long_as_autograd_needs_them() -> None:
    """Watched under torch: the cache holds trained weights until the forward pass is over, recomputed layers only their own,
    and the optimizer's step none."""
    again, kept = memory(FULL), memory(replace(FULL, checkpointing="none"))
    linear = 2.0 * LLAMA.layers * LLAMA.layer_linear
    head = 2.0 * LLAMA.embedding
    assert [term(again, "autocast copies", phase) for phase in ("forward", "last", "first", "step")] == [
        linear + head,
        linear / LLAMA.layers,
        linear / LLAMA.layers,
        0.0,
    ]
    assert term(kept, "autocast copies", "last") == linear
    frozen = memory(replace(LORA, base_dtype="fp32"))
    assert term(frozen, "autocast copies", "forward") == head
    assert again.phases[-1].total == pytest.approx(16 * LLAMA.params, rel=1e-6), "fp32 weights, gradients, two moments"


@pytest.mark.parametrize(
    ("sizes", "rank", "adamw", "galore"),
    [((512, 8, 8, 8, 1376), 128, 0.36, 0.24), ((768, 12, 12, 12, 2048), 256, 0.76, 0.52),
     ((1024, 24, 16, 16, 2736), 256, 2.06, 1.22), ((2048, 24, 32, 32, 5461), 512, 7.80, 4.38)],
)  # fmt: skip
def test_galore_takes_what_its_paper_says(sizes: tuple[int, ...], rank: int, adamw: float, galore: float) -> None:
    """arXiv:2403.03507, table 2: GiB of weights and states in bf16, LLaMA 60M to 1B. Its own counts leave out embeddings of
    another width by up to a tenth."""
    model = Architecture(*sizes, vocab=32000)
    one = Setup(model, train_dtype="bf16", optimizer="adamw")
    stays = 2.0 * model.params / GIB
    assert stays + state_gib(one) == pytest.approx(adamw, rel=0.12)
    assert stays + state_gib(replace(one, optimizer="galore", optimizer_rank=rank)) == pytest.approx(galore, rel=0.12)


def test_badam_takes_two_bytes_a_weight_and_sixteen_of_one_block() -> None:
    """arXiv:2404.02827, 3: 2 M + 16 M / D."""
    model = known("Llama-3-8B")
    step = memory(Setup(model, train_dtype="bf16", optimizer="badam", seq_len=1024)).phases[-1]
    assert step.total == pytest.approx(2 * model.params + 16 * model.layer_params)


@pytest.mark.parametrize(
    ("name", "moments"), [("sgd", 0), ("adafactor", 0), ("lion", 1), ("adam_mini", 1), ("adamw", 2)]
)
def test_moments_of_an_optimizer(name: str, moments: int) -> None:
    assert state_gib(replace(FULL, optimizer=name)) == moments * 4 * LLAMA.params / GIB


def test_states_in_few_bits() -> None:
    eight, four = (state_gib(replace(FULL, optimizer=name)) for name in ("adamw8bit", "adamw4bit"))
    assert eight * GIB / LLAMA.params == pytest.approx(2.03, rel=0.01)
    assert four < eight * 0.6
    assert state_gib(replace(FULL, optimizer="paged_adamw")) == 0.0, "paged states are not the allocator's"


def test_dora_adds_a_magnitude_for_each_output_and_keeps_both_results() -> None:
    dora = replace(LORA, dora=True)
    outputs = sum(outer for _, outer in LLAMA.linears.values())
    assert trained.adapter(dora, 32) - trained.adapter(LORA, 32) == 32 * outputs
    assert memory(dora).allocated > memory(LORA).allocated and time(dora).step > time(LORA).step


def test_oft_trains_skew_symmetric_blocks() -> None:
    oft = Setup(LLAMA, method="oft", oft_block=32, lora_targets=("q",))
    assert trained.adapter(oft, 1) == 4096 / 32 * (32 * 31 / 2)


def test_freezing_keeps_states_of_what_is_trained_alone() -> None:
    two = Setup(LLAMA, method="freeze", trained_layers=2, optimizer="adamw_fused", seq_len=2048)
    step = memory(two).phases[-1]
    assert step.total == pytest.approx(2 * (LLAMA.params - 2 * LLAMA.layer_params) + 16 * 2 * LLAMA.layer_params)
    first = replace(two, trained_first=True)
    assert term(memory(first), "checkpoints", "last") == 16 * term(memory(two), "checkpoints", "last")
    assert time(two).step < time(first).step < time(FULL).step


def test_a_reference_is_a_second_model_unless_an_adapter_can_be_switched_off() -> None:
    dpo = replace(FULL, objective="dpo")
    copy = memory(replace(dpo, references=1)).allocated - memory(dpo).allocated
    assert copy == pytest.approx(2 * LLAMA.params)
    quantised = memory(replace(dpo, references=1, reference_quant="nf4-dq")).allocated - memory(dpo).allocated
    assert quantised < copy / 3
    assert memory(replace(LORA, objective="dpo")).allocated > memory(LORA).allocated, "two passes' log-probabilities"


@pytest.mark.parametrize(("objective", "logit"), [("preference", 12), ("dpo", 16), ("kto", 20), ("reward", 6)])
def test_log_probabilities_of_rows_are_not_fused(objective: str, logit: int) -> None:
    one = replace(LORA, objective=objective, loss="flce")
    assert term(memory(one), "logits", "forward") == logit * one.tokens * LLAMA.vocab


def test_an_evaluation_can_be_the_peak() -> None:
    evaluated = replace(LORA, eval_batch=16)
    assert memory(evaluated).peak.name == "evaluation" and memory(LORA).peak.name != "evaluation"
    written = replace(LORA, eval_batch=4, generated=1024)
    assert term(memory(written), "keys and values", "evaluation") == 2 * 2 * 4096 * 32 * 4 * (2048 + 1024)
    assert fit(replace(evaluated, card="rtx4090")).needed > fit(replace(LORA, card="rtx4090")).needed


def test_a_mask_of_packed_rows_grows_with_the_square() -> None:
    blind = replace(LORA, mask=True, attention="sdpa")
    more = memory(blind).allocated - memory(replace(blind, mask=False)).allocated
    assert more == pytest.approx(2 * 2048**2)
    assert memory(replace(blind, attention="flash")).allocated == memory(replace(LORA, attention="flash")).allocated


def test_scores_of_a_pack_reach_over_its_documents_alone() -> None:
    """Packs of 16 rows: a sixteenth of the pairs; eager and masked attention work them all."""
    pack = replace(LORA, mask=True, attention="flash", seq_len=8192)
    apart = replace(pack, document_len=512)
    assert time(pack).terms["attention"] == pytest.approx(16 * time(apart).terms["attention"])
    assert memory(pack).allocated == memory(apart).allocated
    masked = replace(pack, attention="sdpa")
    assert time(masked).step == time(replace(masked, document_len=512)).step


@pytest.mark.parametrize("more", [{"objective": "ppo"}, {"dora": True}, {"optimizer": "galore"}, {"method": "oft"}])
def test_what_no_row_was_measured_of_is_named(more: dict[str, object]) -> None:
    assert weak(replace(LORA, **more)) and not weak(LORA)


@pytest.mark.parametrize("tensor", [1, 2, 8])
@pytest.mark.parametrize(("attention", "scores"), [("flash", 0.0), ("eager", 5.0)])
def test_megatrons_layer_keeps_what_its_paper_says(tensor: int, attention: str, scores: float) -> None:
    """arXiv:2205.05198, table 2: s b h (34 + 5 a s / h) / t bytes with sequence parallelism, 34 / t with selective
    recomputation."""
    gpt = known("GPT3-175B")
    one = Setup(gpt, framework="megatron", strategy="zero1", norms="fused", loss="megatron_ce", checkpointing="none",
                autocast=False, master=True, train_dtype="bf16", tensor=tensor, attention=attention, seq_len=2048)  # fmt: skip
    published = (34 + scores * gpt.heads * 2048 / gpt.hidden) / tensor
    assert layer.kept(one) / gpt.hidden == pytest.approx(published, rel=0.001)
    assert layer.kept(replace(one, checkpointing="selective_core_attn")) / gpt.hidden == pytest.approx(
        34 / tensor, rel=0.001
    )


def test_megatrons_states_are_six_bytes_and_twelve_shared() -> None:
    """The distributed optimizer: 16-bit weights and fp32 gradients whole, the rest over the data-parallel ranks."""
    one = Setup(known("GPT3-5B"), framework="megatron", strategy="zero1", master=True, train_dtype="bf16", autocast=False,
                data=8, optimizer="adamw_fused", loss="megatron_ce")  # fmt: skip
    assert memory(one).phases[-1].total == pytest.approx((6 + 12 / 8) * one.architecture.params)


def test_adapters_in_one_kernel_with_the_base_save_time() -> None:
    """fms: QLoRA with foak's kernels is faster than LoRA without, though it unpacks its weights."""
    qlora = replace(LORA, quant="nf4-dq", norms="fused", loss="flce", seq_len=4096, micro_batch=8)
    plain = replace(qlora, quant="none")
    assert time(replace(qlora, fused_adapters=True)).step < time(plain).step < time(qlora).step


def test_deepspeed_computes_adapters_in_16_bits() -> None:
    assert not replace(LORA, strategy="zero2", data=8).wide_adapters
    assert LORA.wide_adapters and replace(LORA, strategy="ddp", data=8).wide_adapters


def test_messages_that_nothing_hides_reach_more_of_a_link_the_larger_they_are() -> None:
    one = Setup(LLAMA, tensor=8, card="h100")
    rates = [size / comms.collective(one, size, 8, alone=True) for size in (1e6, 32e6, 1e9)]
    assert rates == sorted(rates) and rates[-1] < 8 / 7 * 450e9 * comms.PROTOCOL


def test_llama_adapter_has_the_parameters_of_its_paper() -> None:
    """Ten prompts and a gate for each head in the top 30 of 32 layers: 1.2 million (arXiv:2303.16199, table 1). Version 2: a bias
    and a scale for each output of every linear map, and trains norms (litgpt, adapter_v2.py)."""
    first = trained.adapter(Setup(LLAMA, method="adapter"), LLAMA.layers)
    assert first == 30 * (10 * 4096 + 32) and 1.2e6 < first < 1.25e6
    second = trained.adapter(Setup(LLAMA, method="adapter_v2"), LLAMA.layers)
    outputs = 5 * 4096 + 2 * 11008
    assert second - first == 32 * (2 * outputs + 2 * 4096) + 2 * 32000


def test_fp16_and_bf16_weights_are_as_large() -> None:
    half = replace(FULL, base_dtype="bf16", train_dtype="bf16")
    assert memory(replace(half, base_dtype="fp16", train_dtype="fp16")).allocated == memory(half).allocated


def test_a_step_inside_backward_keeps_no_gradients() -> None:
    """The gradient of a weight is used and freed when it is there (arXiv:2306.09782): weights and states alone remain."""
    inside = replace(FULL, opt_in_backward=True)
    step = memory(inside).phases[-1]
    assert step.total == pytest.approx(12 * LLAMA.params)
    assert memory(FULL).phases[-1].total - step.total == pytest.approx(4 * LLAMA.params)
