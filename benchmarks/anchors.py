"""Rules that others give, derived again from their packages' own code so that they run on the core install."""

from __future__ import annotations

from collections.abc import Callable

from ftdsl.estimate.setup import Setup

GB = 1e9


def accelerate(setup: Setup) -> float | None:
    """accelerate 1.11, commands/estimate.py: estimate_training_usage. Training with Adam, batch 1: the most of model, gradients,
    optimizer and step, of an fp32 size; knows neither adapters nor cards."""
    size = 4.0 * setup.architecture.params
    if setup.adapts:
        return None
    return size * 4 if setup.base_dtype == "fp32" and not setup.autocast else size * 2


def deepspeed(setup: Setup) -> float | None:
    """DeepSpeed 0.19.8, estimate_zero2_model_states_mem_needs (stage_1_and_2.py) and estimate_zero3_… (stage3.py), without
    offload. ZeRO only; FSDP is ZeRO-3."""
    a, cards = setup.architecture, setup.world
    if setup.strategy == "zero2":
        return 2.0 * a.params + 18.0 * a.params / cards
    if setup.strategy in ("zero3", "fsdp"):
        return 4.0 * max(a.layer_params, a.embedding) + 18.0 * a.params / cards
    return None


def llamafactory(setup: Setup) -> float | None:
    """LLaMA-Factory 0.9.5, README, "Hardware Requirement": GB for each billion of parameters by method and bits; 7B and 70B
    as its table has them, which is the same line. On one card; sharding divides it, which the table does not say."""
    billions = setup.architecture.params / 1e9
    if setup.method == "full":
        pure = setup.train_dtype != "fp32" and not setup.master
        return billions * (8 if pure else 18) * GB
    bits = {"none": 16, "nf4": 4, "nf4-dq": 4, "gptq4": 4, "int8": 8, "gptq8": 8}.get(setup.quant, 16)
    return billions * {16: 2.0, 8: 1.0, 4: 0.5}[bits] * GB


ANCHORS: dict[str, Callable[[Setup], float | None]] = {
    "accelerate": accelerate,
    "DeepSpeed": deepspeed,
    "LLaMA-Factory": llamafactory,
}
