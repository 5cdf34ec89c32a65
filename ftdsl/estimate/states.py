"""Optimizer states and temporary memory of a step, by optimizer."""

from __future__ import annotations

from ftdsl.estimate.setup import BYTES, Setup
from ftdsl.estimate.weights import Share, trainable

EIGHT_BIT = 2 + 2 * 4 / 256
"""adamw8bit: two moments of one byte, an fp32 scale for each block of 256 (bitsandbytes, functional.quantize_blockwise)."""

FOUR_BIT = 1 + 2 * 4 / 128
"""torchao's AdamW4bit: two moments of half a byte, an fp32 scale for each block of 128 (optim/subclass_4bit.py)."""

MOMENTS = {"sgd": 0, "adafactor": 0, "lomo": 0, "lion": 1, "adagrad": 1, "rmsprop": 1, "adam_mini": 1, "muon": 1}
"""Tensors as large as the weights that an optimizer keeps; 2 for all of AdamW's kind. Adafactor keeps sums of rows and columns
(arXiv:1804.04235), Adam-mini one second moment for a block (arXiv:2406.16793), LOMO nothing (arXiv:2306.09782)."""

PROJECTED = ("galore", "apollo")
"""Optimizers whose states live in a subspace of `optimizer_rank`."""

ZERO3_SUB_GROUP = 1e9
"""Elements that ZeRO-3 steps at a time (DeepSpeed, zero/config.py: sub_group_size)."""

BLOCK_STATES = 12.0
"""BAdam, for each weight of the one block at work: an fp32 copy and two moments (arXiv:2404.02827, 3: 2 M + 16 M / D bytes for
M weights in D blocks, where gradients are the other four)."""


def state_bytes(setup: Setup, part: Share) -> float:
    """Bytes of optimizer states and master copies, unsharded, as torch's allocator sees them: paged and offloaded ones are not
    its own."""
    elsewhere = setup.optimizer.startswith("paged") or setup.offload in ("optim", "params")
    return 0.0 if elsewhere else held(setup, part)


def held(setup: Setup, part: Share) -> float:
    """Bytes of states and master weights, unsharded, on GPU or in main memory."""
    name = setup.optimizer.removeprefix("paged_")
    if name == "badam":
        return BLOCK_STATES * block(setup)
    wide = 4.0 if setup.master else BYTES[setup.train_dtype]
    master = trainable(setup, part) * (4.0 if setup.master else 0.0)
    if name in PROJECTED and setup.method in ("full", "freeze"):
        inside, subspace = _projected(setup, part)
        return ((trainable(setup, part) - inside) * 2 + subspace) * wide + master
    if name == "muon" and setup.method == "full":
        # maps of the layers by momentum alone, embedding, head and norms by AdamW
        return (part.linear + (part.total - part.linear) * 2) * wide + master
    return trainable(setup, part) * _width(name, wide) + master


def _width(name: str, wide: float) -> float:
    """Bytes of states a trained weight."""
    if "8bit" in name:
        return EIGHT_BIT * MOMENTS.get(name.removesuffix("8bit").rstrip("_"), 2) / 2
    return FOUR_BIT if "4bit" in name else MOMENTS.get(name.removesuffix("_fused"), 2) * wide


def _projected(setup: Setup, part: Share) -> tuple[float, float]:
    """Elements of the maps of the layers, and of their states in a subspace: two moments of rank times the longer side, and the
    projection, rank times the shorter one (arXiv:2403.03507, table 1; arXiv:2412.05270 has the same shapes)."""
    a, rank = setup.architecture, setup.optimizer_rank
    layers = part.layers if setup.method == "full" else min(setup.trained_layers, part.layers)
    sides = [(min(sizes), max(sizes)) for sizes in a.linears.values()]
    subspace = sum(min(rank, short) * (2 * long + short) for short, long in sides)
    return part.linear * layers / part.layers, layers * subspace * max(1, a.experts) / setup.tensor


def block(setup: Setup) -> float:
    """Weights of one of BAdam's blocks: a layer."""
    return setup.architecture.layer_params / setup.tensor


def step_bytes(setup: Setup, part: Share) -> float:
    """What the step itself needs on one GPU. Torch's default `foreach` AdamW makes one temporary as large as the trained
    weights (the root of the second moment); fused and 8-bit kernels, SGD and steps inside backward make none. DeepSpeed
    makes the fp32 gradients of its part (zero/stage_1_and_2.py: step), ZeRO-3 of a sub-group of 1e9."""
    mine = trainable(setup, part) / setup.state_shards
    if setup.opt_in_backward or setup.offload != "none":
        return 0.0
    if setup.traits.fp32_gradients or (setup.traits.fused_step and not setup.zero):
        # its gradients are fp32 already, and it steps with a fused kernel (core/optimizer/distrib_optimizer.py)
        return 0.0
    if setup.zero:
        return 4.0 * (min(mine, ZERO3_SUB_GROUP) if setup.weight_shards > 1 or setup.strategy == "zero3" else mine)
    if setup.optimizer in ("adamw", "decoupled_adamw"):
        return mine * (4.0 if setup.master else BYTES[setup.train_dtype])
    if setup.optimizer in (*PROJECTED, "adafactor", "muon"):
        # one map at a time: its gradient in fp32, the update before and after projecting back (galore_torch/adamw.py)
        return 12.0 * max(inner * outer for inner, outer in setup.architecture.linears.values())
    return 0.0
