"""From bytes in use to what the allocator holds and what nvidia-smi shows. Neither is memory that a run needs."""

from __future__ import annotations

from ftdsl.estimate.constants import CONTEXT, FRAGMENTED_DYNAMIC, FRAGMENTED_STATIC, FRAGMENTED_VARIABLE
from ftdsl.estimate.setup import Setup

GIB = 2.0**30


def reserved(setup: Setup, static: float, dynamic: float) -> float:
    """Bytes that torch's caching allocator has taken from the card at most."""
    factor = FRAGMENTED_VARIABLE if setup.seq_kind.startswith("variable") else FRAGMENTED_DYNAMIC
    return min(static * FRAGMENTED_STATIC + dynamic * factor, setup.capacity)


def nvidia_smi(setup: Setup, static: float, dynamic: float) -> float:
    """Bytes that nvidia-smi shows for the card: what is reserved, and what the allocator does not count."""
    return min(reserved(setup, static, dynamic) + CONTEXT * GIB, setup.capacity)
