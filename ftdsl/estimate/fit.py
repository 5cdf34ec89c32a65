"""Does it fit? What must be free at once on the card, against what a process can have of it."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.estimate.memory import GIB, Memory, Phase, memory
from ftdsl.estimate.setup import Setup
from ftdsl.record import frozen

USABLE = 0.985
"""The part of a card's memory that CUDA offers (an A100 of 80 GiB says 79.15, an RTX 4090 of 24 says 23.65)."""

CONTEXT = 0.5 * GIB
"""Bytes of the CUDA context at least. What libraries take beyond it, and caches, the allocator gives back when it must."""

SCATTER = {"single": 1.05, "trained": 1.2, "sharded": 1.3}
"""Free blocks that do not fit are lost: needed for each byte that comes and goes, when adapters are trained on one card, when
gradients of all weights lie between activations, and when FSDP gathers and frees beside. From the fms rows that ran or failed
at 0.8 to 1 of an A100: Llama-2-70B in QLoRA at 0.83 under FSDP failed, Mistral-7B in QLoRA at 0.87 on one card ran."""


@frozen
class Fit:
    """Whether a set-up fits, and the bytes that must be free against those the card has."""

    memory: Memory
    needed: float
    usable: float

    @property
    def fits(self) -> bool:
        return self.needed <= self.usable

    @property
    def fraction(self) -> float:
        """The part of the card that is needed."""
        return self.needed / self.usable


def fit(setup: Setup) -> Fit:
    """Raises: NotModelledError."""
    found = memory(setup)
    return Fit(found, max(_needed(setup, phase) for phase in found.phases) + CONTEXT, setup.capacity * USABLE)


def smallest_card(setup: Setup) -> float:
    """GiB of the smallest card (of the sizes that are sold) on which the set-up fits: what "fits on 24 GB" states. More than
    the largest: what is needed."""
    found = fit(setup)
    sizes = sorted({size for gpu in catalog.gpus().values() for size in gpu.memory if size in COMMON})
    return next((float(size) for size in sizes if found.needed <= size * USABLE * GIB), found.needed / GIB)


COMMON = {8, 10, 11, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192}
"""Sizes that people state: those of more than one card, or of one that everybody knows."""


STAYS = ("weights", "optimizer", "frozen models", "gathered weights", "buffers")
"""Terms that come once and stay, so that no blocks are lost between them."""


def _needed(setup: Setup, phase: Phase) -> float:
    kind = "sharded" if setup.fsdp else "single" if setup.adapts else "trained"
    stays = sum(phase.terms.get(name, 0.0) for name in STAYS)
    # the step allocates in the order of the parameters, after all else is freed
    factor = 1.0 if phase.name == "step" else SCATTER[kind]
    return stays + (phase.total - stays) * factor
