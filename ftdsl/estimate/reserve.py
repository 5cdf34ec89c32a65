"""From bytes in use to what the allocator holds and what nvidia-smi shows. Neither is memory that a run needs."""

from __future__ import annotations

from ftdsl.estimate import constants
from ftdsl.estimate.setup import Setup

GIB = 2.0**30


def _varies(setup: Setup) -> bool:
    return setup.seq_kind.startswith("variable")


def reserved(setup: Setup, static: float, dynamic: float) -> float:
    """Bytes that torch's caching allocator has taken from the card at most."""
    searched = constants.FITTED
    factor = searched.fragmented_variable if _varies(setup) else searched.reserved_dynamic
    return min(static * searched.reserved_static + dynamic * factor, setup.capacity)


def nvidia_smi(setup: Setup, static: float, dynamic: float) -> float:
    """Bytes that nvidia-smi shows for the card: what was reserved, and what the allocator does not count."""
    searched = constants.FITTED
    factor = searched.fragmented_variable if _varies(setup) else searched.fragmented_dynamic
    outside = searched.context + (searched.collectives if setup.world > 1 else 0.0)
    return min(static * searched.fragmented_static + dynamic * factor + outside * GIB, setup.capacity)
