"""Buffers that are whole on each GPU although weights are sharded: gathered units, buckets, staging space."""

from __future__ import annotations

from ftdsl.estimate.setup import BYTES, Setup
from ftdsl.estimate.weights import layer_weight_bytes

ZERO3_LIVE = 1e9
"""DeepSpeed's stage3_max_live_parameters and prefetch (zero/config.py): at most this many gathered parameters stay."""

ZERO_BUCKET = 5e8
"""DeepSpeed's reduce_bucket_size and allgather_bucket_size, in elements (zero/config.py)."""


def gathered(setup: Setup, whole: float) -> float:
    """Bytes of weights gathered at once: FSDP's root unit (embedding and head) and two layers (the one at work and the one
    fetched ahead), ZeRO-3's live parameters. `whole`: all weights of the stage."""
    a = setup.architecture
    if setup.weight_shards == 1 and setup.strategy != "zero3":
        return 0.0
    plain = setup.compute_bytes
    root = a.embedding * (1 if a.tied else 2) * plain / setup.tensor
    layers = 2 * layer_weight_bytes(setup)
    if setup.fsdp:
        return root + layers
    # the head is one parameter, gathered whole whatever the limit
    return min(ZERO3_LIVE * plain + a.embedding * plain, whole * plain / 2)


def resharded(setup: Setup) -> float:
    """Bytes of those that are gone by the end of the forward pass: FSDP's layers, whose root unit stays."""
    return 2 * layer_weight_bytes(setup) if setup.fsdp and setup.weight_shards > 1 else 0.0


def bucket(setup: Setup, trained: float) -> float:
    """Bytes of communication buffers: DeepSpeed's buckets (two when it overlaps), DDP's, which are as
    large as all gradients (torch's reducer, without gradient_as_bucket_view)."""
    if setup.data == 1 and not setup.zero:
        return 0.0
    if setup.zero and setup.traits.buckets:
        return 2 * min(ZERO_BUCKET, trained) * 2.0
    return trained * BYTES[setup.train_dtype] if setup.strategy == "ddp" else 0.0


def whole_gradients(setup: Setup) -> float:
    """Bytes of gradients that are whole for a while: the head's, which comes first; under FSDP the root unit's until the
    end, and with fp32 reduction a layer's in both widths."""
    if setup.adapts and not setup.trains_embeddings:
        return 0.0
    a = setup.architecture
    wide = 2.0 if setup.fsdp else BYTES[setup.train_dtype]
    head = 0.0 if setup.opt_in_backward else a.embedding * wide / setup.tensor
    reduced = 6.0 * a.layer_params / setup.tensor if setup.fsdp2 else 0.0
    return head + reduced
