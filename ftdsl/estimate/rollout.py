"""Answers that a model writes while it trains (GRPO, distillation): their memory, and the seconds they take.

Without vLLM, transformers' `generate` writes all answers of an optimizer step at once: micro-batch times accumulation on each
GPU (trl/trainer/grpo_trainer.py: get_train_dataloader, steps_per_generation; distillation_trainer.py alike). Upper bounds: as if
every answer had its full length.
"""

from __future__ import annotations

from ftdsl.estimate import compute, weights
from ftdsl.estimate.setup import BYTES, Setup

SAMPLED = 14.0
"""Bytes a logit of the last token: in 16 bits, in fp32, divided by the temperature, and probabilities (transformers,
generation/utils.py: _sample; generation/logits_process.py)."""

SORTED = 28.0
"""Bytes a logit more where `top_p` sorts the vocabulary: values and 64-bit places, softmax and its sum, a mask over both."""

SAMPLING = 2e-3
"""Seconds of CPU for each token besides the layers: processors of logits, stopping criteria, the next input."""


def rows(setup: Setup) -> int:
    """Answers that one GPU writes at once; 0 where vLLM does."""
    return setup.micro_batch * setup.accumulate if setup.rollout and not setup.vllm else 0


def answer(setup: Setup) -> int:
    """Tokens of an answer at most; a row has a prompt of one token or more besides."""
    return min(setup.rollout, max(1, setup.seq_len - 1))


def prompt(setup: Setup) -> int:
    """Tokens of the longest prompt that leaves room for an answer."""
    return max(1, setup.seq_len - answer(setup))


def cache_bytes(setup: Setup, length: int) -> float:
    """Keys and values of all rows at so many tokens; layers with a window keep its tokens, those without scores none."""
    a = setup.architecture
    windowed = min(a.windowed, a.layers)
    whole = max(0, a.layers - windowed - a.linear_layers)
    tokens = whole * length + windowed * min(a.window or length, length)
    return 2 * setup.compute_bytes * a.kv * tokens * rows(setup) / setup.pipeline / setup.tensor


def terms(setup: Setup, part: weights.Share, running: dict[str, float]) -> dict[str, float]:
    """Bytes while answers are written. running: what is there at any time of a step.

    ZeRO-3 gathers the whole model for it (trl, `ds3_gather_for_generation`); the prompt is read by all rows at once.
    """
    a = setup.architecture
    held = dict(running)
    held.pop("mask", None)
    if setup.strategy == "zero3":
        whole = weights.weight_bytes(setup, part)
        held["gathered weights"] = whole * (1 - 1 / setup.weight_shards)
    width = (3 if a.gated else 2) * a.active_ffn + 2 * a.hidden
    logit = SAMPLED + (SORTED if setup.nucleus else 0.0)
    return held | {
        "keys and values": cache_bytes(setup, prompt(setup) + answer(setup)),
        "logits": rows(setup) * a.vocab * logit / setup.tensor,
        "one layer": setup.compute_bytes * width * rows(setup) * prompt(setup) / setup.tensor,
    }


def seconds(setup: Setup) -> float:
    """Seconds of an optimizer step in which answers are written, at most; an estimate that no measured run has corrected. 0 with
    vLLM, whose speed is not known.

    Each token of all rows reads all weights and, on average, half of the last cache, or the CPU is slower in starting kernels.
    """
    if not rows(setup):
        return 0.0
    a = setup.architecture
    read = _read(setup) * a.params / setup.tensor
    middle = prompt(setup) + answer(setup) // 2
    moved = compute.stream(setup, read + cache_bytes(setup, middle))
    started = compute.launching(setup) / _launches(setup) * a.layers + SAMPLING * compute.host_speed(setup)
    forward = compute.matmul(setup) / compute.passes(setup) * a.layers
    first = forward * rows(setup) * prompt(setup) / setup.tokens
    return setup.rollout_share * (first + answer(setup) * max(moved, started))


def _read(setup: Setup) -> float:
    """Bytes read and written for each weight and token: as it is held, and its 16-bit copy under autocast."""
    if setup.adapts:
        return weights.QUANT_BYTES.get(setup.quant, BYTES[setup.base_dtype])
    copied = setup.autocast and setup.base_dtype == "fp32" and not setup.zero
    return BYTES[setup.base_dtype] + (2 * 2.0 if copied else 0.0)


def _launches(setup: Setup) -> float:
    """Passes of a training step in `compute.launching`: forward, again, backward."""
    return 1 + 1.5 + compute.RECOMPUTED.get(setup.selective, 0.0)


def forwards(setup: Setup) -> float:
    """Forward passes of a micro-batch besides its own, in passes of the model that is trained: those of the set-up, and each
    teacher's and judge's."""
    others = sum(model.params for model in (*setup.teachers, *setup.judges)) / setup.architecture.params
    return setup.extra_forwards + others
