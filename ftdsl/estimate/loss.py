"""How logits and cross-entropy are held, by implementation and version: the largest single term at long vocabularies."""

from __future__ import annotations

from ftdsl.estimate import constants
from ftdsl.estimate.setup import Setup
from ftdsl.record import frozen, replace


@frozen(eq=True)
class Held:
    """Bytes a logit (token x vocabulary) while the loss is worked out; `chunks`: only this part of the tokens at once (0: by
    Liger's rule); `tokenwise`: bytes a token and hidden unit beside (last norm, hidden states and their gradient)."""

    logit: float
    tokenwise: float = 6.0
    chunks: int = 1


HELD = {
    # transformers before 4.45: logits in bf16 (2) and upcast (4), a shifted copy (4), log-softmax (4)
    "hf_fp32": Held(14),
    # later: no shifted copy; at the backward pass log-softmax, its gradient and the gradient of the loss (12)
    "hf_fp32_new": Held(12),
    # model code that does not upcast: logits, shifted copy, log-softmax, gradient, each 2
    "hf_bf16": Held(8),
    # logits and shifted copy (2 + 2), cross-entropy under autocast in fp32 (4 + 4)
    "hf_autocast": Held(12),
    # Triton cross-entropy writes the gradient into the logits: what the model's code had made before it stays
    "fused_ce": Held(10, 4),
    "fused_ce_new": Held(8, 4),
    # Liger: the head is applied to a part of the tokens at a time, forward and backward at once
    "flce": Held(10, 4, 0),
    # litgpt, utils.chunked_cross_entropy: chunks of logits, their log-softmax, gradients (constants.litgpt_logit)
    "litgpt_chunk": Held(8, 6),
    # torchtune (transformer.py: output(h).float()): at the backward pass log-softmax and two gradients, each fp32; compiled,
    # fp32 logits and their gradient
    "tt_ce": Held(12),
    "tt_ce_compile": Held(8),
    # torchtune CEWithChunkedOutputLoss, eight chunks: logits, fp32 log-softmax of all, a chunk's fp32 copy; compiled, nothing of
    # the forward pass but the logits, each chunk of which makes way for its gradient (`_logit_bytes`)
    "tt_chunk": Held(6.5),
    # torchtitan (components/loss.py: pred.float()), logits dropped before the backward pass; compiled, 16-bit logits and
    # their gradient
    "titan_ce": Held(12),
    "titan_ce_compile": Held(4.5),
    # TRL: log-probabilities from tiles of 4096 tokens x 32768 entries of the vocabulary (`_tiled`); distillation has two, in fp32
    "trl_tiles": Held(2),
    "trl_pairs": Held(10),
    # TRL's reward models: one number for a row
    "score": Held(0, 4),
    # Megatron's vocab-parallel cross-entropy: 16-bit logits, an fp32 copy that becomes softmax and gradient in place
    "megatron_ce": Held(8),
}

TUNE_CHUNKS = 8
"""torchtune, modules/loss: `num_output_chunks`."""
TILED = ("trl_tiles", "trl_pairs", "score")
TILE_TOKENS, TILE_VOCAB = 4096, 32768
"""TRL's sizes of a tile (trl/kernels/chunked_logprob.py: TOKEN_CHUNK_SIZE; trainer/utils.py: _CHUNKED_LOGPROB_CHUNK_SIZE)."""

NOT_UPCAST = {"gpt_bigcode", "gpt_neox", "bloom", "falcon", "gpt2", "mpt", "opt"}
"""Families whose transformers code passes bf16 logits to the loss (modeling_gpt_bigcode.py and similar, before 4.48)."""

PREFERENCE = {"preference": 12.0, "dpo": 16.0, "kto": 20.0, "reward": 6.0, "ppo": 16.0}
"""Bytes a logit where logits become log-probabilities of whole rows, which no fused loss does. DPO: fp32 logits and
log-softmax of the policy, then those of the reference beside (llamafactory, train/dpo/trainer.py: concatenated_forward keeps
the logits); without a reference three fp32 tensors of the backward pass. KTO: the same with a third pass for the KL term
(train/kto/trainer.py). Reward: logits and their fp32 copy, which nothing reads (trl, models/modeling_value_head.py). PPO: fp32
logits, log-softmax, and two for the entropy (trl, core.py: entropy_from_logits). The first three were counted by
running these functions under a dispatch mode that adds up what is alive: 11.8, 15.9 and 19.9 with 63 of 64 tokens."""

EVALUATED = 10.0
"""Bytes a logit in an evaluation: in 16 bits, in fp32, and log-softmax; no gradient."""

SINCE_4_45 = {"granite", "qwen3", "gemma3", "smollm3"}
"""Families that older transformers do not know: their Triton cross-entropy never met the old upcast and shifted copy."""


def loss_bytes(setup: Setup) -> float:
    """Bytes of logits and all that the loss makes of them at the worst moment."""
    held = HELD[setup.loss]
    if setup.loss in TILED:
        scored = setup.tokens * (scored_part(setup) if setup.card else 1.0)  # without Triton every position is scored
        return _tiled(setup, scored)
    vocab = setup.architecture.vocab / setup.tensor
    if setup.objective in PREFERENCE:
        return setup.tokens * vocab * PREFERENCE[setup.objective]
    if held.chunks == 0:
        return _fused_linear(setup, held)
    return setup.tokens * vocab * _logit_bytes(setup, held)


def moved_bytes(setup: Setup) -> float:
    """Bytes of logits and what the loss makes of them, in all: tiles come and go many times."""
    if setup.loss not in TILED:
        return loss_bytes(setup)
    scored = setup.tokens * scored_part(setup)
    return scored * setup.architecture.vocab / setup.tensor * HELD[setup.loss].logit * 2


def scored_part(setup: Setup) -> float:
    """The part of a row's tokens that are scored: those of a generated answer alone, otherwise all."""
    return min(1.0, setup.rollout / setup.seq_len) if setup.rollout else 1.0


def _tiled(setup: Setup, scored: float) -> float:
    """Bytes of a tile of logits, of the part of the head that it is made with, and of the fp32 gradients of hidden states and
    head (trl/kernels/chunked_logprob.py, chunked_divergence.py: backward). scored: number of tokens. Without Triton three fp32
    copies of the tile come to it."""
    if setup.loss == "score":
        return 0.0
    a = setup.architecture
    width = min(a.vocab, TILE_VOCAB)
    tile = (
        min(scored, TILE_TOKENS)
        * width
        * (HELD[setup.loss].logit * setup.compute_bytes / 2 + (0 if setup.card else 12))
    )
    trained = not setup.adapts or setup.trains_embeddings
    part = width * a.hidden * setup.compute_bytes
    return (tile + part + scored * a.hidden * 4.0 + (a.embedding * 4.0 if trained else 0.0)) / setup.tensor


def _logit_bytes(setup: Setup, held: Held) -> float:
    family = setup.architecture.family
    if setup.loss == "fused_ce":
        if family in NOT_UPCAST:
            return 14.0 if setup.autocast else 6.0
        return 8.0 if family in SINCE_4_45 else 10.0
    if setup.loss == "hf_bf16" and setup.autocast and family in NOT_UPCAST:
        # accelerate returns fp32 outputs (4) in addition to bf16 logits (2); cross-entropy runs in fp32 (12)
        return 18.0
    if setup.loss == "tt_chunk" and setup.compile:
        # recipes drop the list of chunks before the backward pass, where a chunk is freed when its gradient is there
        return 2.0 + 2.0 / TUNE_CHUNKS
    if setup.traits.logit_bytes:
        return setup.traits.logit_bytes
    return constants.FITTED.litgpt_logit if setup.loss == "litgpt_chunk" else held.logit


def _fused_linear(setup: Setup, held: Held) -> float:
    """Liger's fused_linear_cross_entropy: tokens in chunks so that a chunk's logits are about as large as the hidden states
    (ops/fused_linear_cross_entropy.py), and the gradient of the head in its own dtype when it is trained."""
    a = setup.architecture
    ratio = -(-a.vocab // a.hidden)
    wanted = -(-setup.tokens // ratio)
    chunk = min(setup.tokens, 1 << max(0, wanted - 1).bit_length())
    trained = not setup.adapts or setup.trains_embeddings
    return chunk * a.vocab * held.logit + (a.embedding * 2.0 if trained else 0.0)


def eval_bytes(setup: Setup) -> float:
    """Bytes of the logits of an evaluation, which the fused losses do without as in training."""
    if setup.loss in TILED:
        return _tiled(setup, setup.eval_batch * setup.seq_len)
    if HELD[setup.loss].chunks == 0 and setup.objective not in PREFERENCE:
        return _fused_linear(replace(setup, micro_batch=setup.eval_batch), HELD[setup.loss])
    per = 6.0 if setup.objective == "reward" else EVALUATED
    return setup.eval_batch * setup.seq_len * setup.architecture.vocab / setup.tensor * per


def tokenwise_bytes(setup: Setup) -> float:
    """The last hidden states, their norm and gradient."""
    whole = HELD[setup.loss].tokenwise
    split = setup.tensor if setup.traits.sequence_parallel else 1
    # the head reads all tokens' hidden states, norms and gradients are split
    return (2.0 + (whole - 2.0) / split) * setup.architecture.hidden * setup.tokens
