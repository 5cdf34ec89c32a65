"""From bytes in use to what the allocator holds and what nvidia-smi shows. Neither is memory that a run needs.

Reserved: weights and states have separate blocks; temporary memory leaves blocks that the next phase cannot use, more if FSDP
allocates on separate streams, and more if lengths change between batches. nvidia-smi shows all of that, the CUDA context, and
NCCL's buffers.
"""

from __future__ import annotations

from ftdsl.estimate import constants
from ftdsl.estimate.setup import Setup

GIB = 2.0**30

USABLE = 0.985
"""The part of a GPU's memory that CUDA offers: the allocator cannot hold more."""


def _left_behind(setup: Setup) -> float:
    """Bytes held for each byte that comes and goes."""
    searched = constants.FITTED
    factor = searched.reserved_dynamic
    if setup.fsdp and setup.weight_shards > 1:
        factor *= searched.reserved_streams
    if setup.seq_kind.startswith("variable"):
        factor *= searched.reserved_variable
    elif setup.seq_kind in ("trunc_max", "limit"):
        # the longest batches set the blocks, and shorter ones fit into them
        factor *= searched.reserved_variable**0.1
    return factor


def reserved(setup: Setup, static: float, dynamic: float) -> float:
    """Bytes that torch's caching allocator has taken from the GPU at most."""
    held = static * constants.FITTED.reserved_static + dynamic * _left_behind(setup)
    return min(held, max(static + dynamic, setup.capacity * USABLE))


def nvidia_smi(setup: Setup, static: float, dynamic: float) -> float:
    """Bytes that nvidia-smi shows for the card: what was reserved, and what the allocator does not count."""
    searched = constants.FITTED
    outside = searched.context + (searched.collectives if setup.world > 1 else 0.0)
    return min(reserved(setup, static, dynamic) + outside * GIB, max(static + dynamic, setup.capacity))
