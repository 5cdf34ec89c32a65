"""Seconds of communication by strategy: gathering weights, reducing gradients, tensor and context parallelism, the host."""

from __future__ import annotations

from ftdsl.estimate import constants, weights
from ftdsl.estimate.setup import BYTES, Setup

HOST_BANDWIDTH = 100e9
"""Bytes a second that a machine's processors work on for all its GPUs (eight channels of DDR4-3200 give 205 at most; half of
it for an optimizer that reads and writes)."""


PROTOCOL = 0.82
"""What NCCL's protocol leaves of a link's line rate for large messages with nothing else going on: 370 of 450 GB/s (one of its
developers in NVIDIA/nccl-tests, issue 212)."""

HALFWAY = 32e6
"""Bytes at which half of that is reached; the same source calls 256 MB too few to reach it (no row of ours)."""


THROUGH_HOST = 0.2
"""What is left of PCIe between GPUs that cannot read each other's memory: every byte is written to the host's and read from
there, on boards that give two GPUs eight lanes each."""


def collective(setup: Setup, held: float, cards: int, alone: bool = False) -> float:
    """Seconds for each GPU to receive (or reduce) `held` bytes sharded over several GPUs: within a machine over its links,
    between machines over the network, the slower of the two. `alone`: nothing computes at the same time."""
    if cards <= 1:
        return 0.0
    gpu, searched = setup.gpu, constants.FITTED
    inside = min(cards, setup.node)
    link = gpu.pcie if setup.pcie_only and gpu.link > 2 * gpu.pcie else gpu.link
    if not gpu.peer:
        link = gpu.pcie * THROUGH_HOST
    reach = PROTOCOL * held / (held + HALFWAY) if alone else searched.link
    local = held * (inside - 1) / inside / (link * 1e9 * reach)
    machines = cards / inside
    if machines <= 1:
        return local
    # every machine receives all parts of the others once, through all its adapters
    return max(local, held * (machines - 1) / machines / (inside * gpu.network * 1e9 * searched.network))


def gathering(setup: Setup) -> float:
    """Seconds of a layer's gathers and reductions in one micro-batch, where weights or gradients are sharded."""
    if not (setup.fsdp or setup.strategy in ("zero3", "gemini")):
        return 0.0
    held = weights.layer_weight_bytes(setup)
    gathers = 1 if setup.strategy == "fsdp_grad_op" else 2
    reduced = 0.0 if setup.adapts else held
    cards = setup.state_shards
    seconds = collective(setup, held * gathers + reduced, cards)
    if setup.strategy == "hsdp" and not setup.adapts:
        seconds += 2 * collective(setup, held / cards, max(1, setup.data // cards) * setup.node) / setup.node
    return seconds


def reducing(setup: Setup) -> float:
    """Seconds to reduce all gradients once a step, where they are whole on each GPU (DDP, ZeRO 1 and 2)."""
    if setup.data * setup.context == 1 or setup.fsdp or setup.strategy in ("zero3", "gemini", "single", "device_map"):
        return 0.0
    part = weights.share(setup)
    held = weights.trainable(setup, part) * BYTES[setup.train_dtype] / setup.pipeline
    # ZeRO-2 keeps no whole gradients, so it reduces after each micro-batch
    times = setup.accumulate if setup.strategy == "zero2" else 1
    return times * 2 * collective(setup, held, setup.data * setup.context)


def splitting(setup: Setup) -> float:
    """Seconds of a layer's exchanges of activations: tensor parallelism reduces twice forward and twice backward (and again
    where recomputed), context parallelism passes keys and values around."""
    a = setup.architecture
    times = 3.0 if setup.checkpointing == "full" else 2.0
    total = 0.0
    if setup.tensor > 1:
        total += 2 * times * 2 * collective(setup, 2.0 * a.hidden * setup.tokens, setup.tensor, alone=True)
    if setup.context > 1:
        total += times * collective(setup, 4.0 * a.kv * setup.tokens * setup.context, setup.context)
    return total


def host(setup: Setup, forwards: float) -> float:
    """Seconds that transfers to and from the host take in a step beside computing: offloaded states are stepped there,
    offloaded weights come over for each pass."""
    if setup.offload == "none":
        return 0.0
    part = weights.share(setup)
    shard = weights.trainable(setup, part) / setup.state_shards
    wire = setup.gpu.pcie * 1e9 * 0.8
    cards = min(setup.world, setup.node)
    stepping = shard * (BYTES[setup.train_dtype] + 2.0) / wire + shard * 28.0 * cards / HOST_BANDWIDTH
    if setup.offload != "params":
        return stepping
    return stepping + weights.weight_bytes(setup, part) / setup.weight_shards * forwards / wire
