"""Does a setup fit? Compares certain and likely memory with the memory available to a process.

A setup is refused only if it certainly does not fit: bytes that do not depend on row lengths, or exact lengths whose
interval lies above the GPU's capacity. Otherwise the interval decides between `safe` and `doubtful`.
"""

from __future__ import annotations

import math

from ftdsl import catalog
from ftdsl.estimate.interval import SEEN, deviation_of
from ftdsl.estimate.memory import GIB, Memory, Phase, memory
from ftdsl.estimate.setup import Setup
from ftdsl.record import frozen, replace

USABLE = 0.985
"""Share of a GPU's memory that CUDA offers (79.15 of an A100's 80 GiB, 23.65 of an RTX 4090's 24)."""

CONTEXT = 0.5 * GIB
"""Minimum bytes of the CUDA context. The allocator can free the caches and workspaces beyond it."""

SCATTER = {"single": 1.05, "trained": 1.2, "sharded": 1.3}
"""Free blocks that do not fit are lost: needed for each byte that comes and goes, when adapters are trained on one GPU, when
gradients of all weights lie between activations, and when FSDP gathers and frees beside. From the fms rows that ran or failed
at 0.8 to 1 of an A100: Llama-2-70B in QLoRA at 0.83 under FSDP failed, Mistral-7B in QLoRA at 0.87 on one GPU ran."""

EXACT_KINDS = ("exact", "max_padded")
"""Kinds of lengths where every batch has the length of the limit."""

ALMOST_ALL = 2.326
"""Standard deviations below an estimate that 99 of 100 runs exceed."""

CERTAIN_TERMS = ("weights", "optimizer", "gradients", "frozen models")
"""Terms that do not depend on rows: they are present at the optimizer's step for any data."""

COUNTING_ERROR = 0.03
"""How far the count of parameters and their bytes may be off where all sizes are known (rounding of groups and paddings)."""

OTHER_CODE, INFERRED = 0.1, 0.04
"""The same where no row has the framework's code, which may hold or spread something otherwise; for each setting that is
inferred."""


@frozen
class Fit:
    """Whether a set-up fits: bytes that must be free, `low` to `high` with `needed` likely, against the `usable` ones of the
    GPU's `capacity`. `certain`: bytes of them that no length of a row changes; `least`: what 99 of 100 runs need more than."""

    memory: Memory
    certain: float
    least: float
    low: float
    needed: float
    high: float
    usable: float
    capacity: float

    @property
    def fits(self) -> bool:
        """Whether it probably fits."""
        return self.needed <= self.usable

    @property
    def fraction(self) -> float:
        """Share of the GPU's memory that is needed."""
        return self.needed / self.usable

    @property
    def refused(self) -> bool:
        """Whether it certainly does not fit."""
        setup = self.memory.setup
        return is_certain(self.certain, self.least, self.capacity, setup.seq_kind)

    @property
    def safe(self) -> bool:
        """Whether even the high end of the estimate fits."""
        return self.high <= self.usable


def is_certain(certain: float, least: float, limit: float, seq_kind: str) -> bool:
    """Whether a limit in bytes is certainly passed: by what no row changes, or where all rows are of one length by the least that
    is needed."""
    return certain > limit or (seq_kind in EXACT_KINDS and least > limit)


def fit(setup: Setup) -> Fit:
    """Raises: NotModelledError."""
    estimate = memory(setup)
    scattered = max(_needed(setup, phase) for phase in estimate.phases) + CONTEXT
    low, high = estimate.interval()
    # the low end has neither lost blocks nor a context in it: runs have come within a percent of the GPU
    return Fit(
        estimate,
        certain_bytes(estimate),
        estimate.allocated * math.exp(-ALMOST_ALL * deviation_of(setup, "allocated_peak")),
        low,
        scattered,
        scattered + (high - estimate.allocated),
        setup.capacity * USABLE,
        setup.capacity,
    )


def certain_bytes(estimate: Memory) -> float:
    """Bytes on the GPU at the optimizer's step for any rows, less the uncertainty of counting."""
    step = next(phase for phase in estimate.phases if phase.name == "step")
    setup = estimate.setup
    spread = COUNTING_ERROR + setup.architecture.uncertainty + INFERRED * len(setup.unknown)
    spread += 0.0 if setup.framework in SEEN.frameworks else OTHER_CODE
    return sum(step.terms.get(name, 0.0) for name in CERTAIN_TERMS) * (1 - spread)


def longest_that_fits(setup: Setup, step: int = 100) -> int:
    """Tokens of the longest rows that are likely to fit, to a multiple of `step`; 0 where none do."""
    low, high = 0, setup.seq_len // step
    while low < high:
        middle = (low + high + 1) // 2
        if fit(replace(setup, seq_len=middle * step)).fits:
            low = middle
        else:
            high = middle - 1
    return low * step


def smallest_card(setup: Setup) -> float:
    """GiB of the smallest GPU (of the sizes that are sold) on which the set-up fits: what "fits on 24 GB" states. More than
    the largest: what is needed."""
    needed = fit(setup).needed
    sizes = sorted({size for gpu in catalog.gpus().values() for size in gpu.memory if size in COMMON})
    return next((float(size) for size in sizes if needed <= size * USABLE * GIB), needed / GIB)


COMMON = {8, 10, 11, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192}
"""Sizes that people state: those of more than one GPU, or of one that everybody knows."""


STAYS = ("weights", "optimizer", "frozen models", "gathered weights", "buffers")
"""Terms that come once and stay, so that no blocks are lost between them."""


def _needed(setup: Setup, phase: Phase) -> float:
    kind = "sharded" if setup.fsdp else "single" if setup.adapts else "trained"
    stays = sum(phase.terms.get(name, 0.0) for name in STAYS)
    # the step allocates in the order of the parameters, after all else is freed
    factor = 1.0 if phase.name == "step" else SCATTER[kind]
    return stays + (phase.total - stays) * factor
