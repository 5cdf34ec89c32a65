"""The uncertainty of an estimate: an interval that should contain nine of ten runs, by which parts of a setup were measured.

Each input of the estimate adds its variance: the kind of figure, the framework's code, the GPU, settings never measured,
inferred values. Deviations are of logarithms, since errors are factors; the interval is asymmetric, since runs use more memory
and time than estimated more often than less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from ftdsl.estimate.setup import Setup
from ftdsl.record import frozen, replace

NINE_OF_TEN = 1.645
"""Standard deviations to each side that contain nine of ten runs."""

KINDS = {
    "allocated_peak": 0.04,
    "active_peak": 0.045,
    "reserved_peak": 0.06,
    "nvidia_smi": 0.075,
    "capacity": 0.15,
    "step": 0.085,
}
"""Standard deviation of the logarithm where all of a set-up has been measured: what sources leave that the constants were fitted
without (docs/planner.md)."""

UPWARD = {"step": 1.25}
"""How much longer the upper side is than the lower one; `MEMORY_UPWARD` for kinds of memory."""

MEMORY_UPWARD = 1.15


@frozen(eq=True)
class Seen:
    """What published rows of ours have: words of set-ups, for memory and for time."""

    frameworks: frozenset[str] = frozenset({"hf", "litgpt", "composer", "fsdp_qlora"})
    timed_frameworks: frozenset[str] = frozenset({"hf", "composer", "fsdp_qlora", "megatron"})
    cards: frozenset[str] = frozenset({"a100", "h100", "rtx3090", "rtx4090", "a5000", "rtx6000ada", "l40s"})


SEEN = Seen()

SEEN_OPTIMIZERS = {"adamw", "adamw_fused", "decoupled_adamw", "paged_adamw", "adamw8bit", "paged_adamw8bit", "sgd"}
SEEN_STRATEGIES = {"single", "ddp", "zero2", "zero3", "fsdp", "fsdp_grad_op"}
RELATIVES = {"a800": "a100", "h800": "h100", "h200": "h100", "gh200": "h100"}
"""GPUs with the same processor as another."""


@contextmanager
def without(frameworks: set[str], cards: set[str]) -> Iterator[None]:
    """As if no row had these while the block runs: for intervals of a source that is left out."""
    global SEEN
    before = SEEN
    SEEN = replace(
        before,
        frameworks=before.frameworks - frameworks,
        timed_frameworks=before.timed_frameworks - frameworks,
        cards=before.cards - cards,
    )
    try:
        yield
    finally:
        SEEN = before


def deviations(setup: Setup, timed: bool = False) -> dict[str, float]:
    """What of a set-up the estimate was not held to, and the deviation that each adds. `timed`: for the step time."""
    both = _methods(setup) | _layouts(setup, timed) | _reading(setup, timed)
    return both | (_speed(setup) if timed else {})


def _methods(setup: Setup) -> dict[str, float]:
    a = setup.architecture
    applies = {
        "mixture of experts": (0.1, a.experts > 0),
        "sizes that are guessed": (a.uncertainty, a.uncertainty > 0),
        "layers other than attention and MLP": (0.12, a.special),
        "a vision or sound tower": (0.08, a.tower > 0),
        "fp8": (0.08, setup.quant == "fp8_compute"),
        "PPO's rollouts": (0.2, setup.objective == "ppo"),
        "rollouts": (0.2, setup.rollout > 0),
        "a reference beside the model": (0.12, setup.objective in ("dpo", "kto")),
        f"training by `{setup.method}`": (0.12, setup.method in ("freeze", "oft")),
        "DoRA": (0.12, setup.dora),
        "inputs that old 4-bit kernels keep": (0.08, setup.traits.keeps_quantised_inputs and setup.quant != "none"),
        f"the optimizer {setup.optimizer}": (0.08, setup.optimizer not in SEEN_OPTIMIZERS),
    }
    return {name: deviation for name, (deviation, is_so) in applies.items() if is_so}


def _layouts(setup: Setup, timed: bool) -> dict[str, float]:
    applies = {
        "pipeline parallelism": (0.1, setup.pipeline > 1),
        "tensor parallelism": (0.07, setup.tensor > 1),
        "context parallelism": (0.1, setup.context > 1),
        "offloading": (0.2 if timed else 0.1, setup.offload != "none" or setup.offload_activations),
        "selective checkpointing": (0.1, setup.checkpointing.startswith("selective")),
        "compiled layers": (0.09, setup.compile),
        f"{setup.strategy} sharding": (0.1, setup.strategy not in SEEN_STRATEGIES),
        "ZeRO-3": (0.06, setup.strategy == "zero3"),
        "FSDP": (0.03, setup.fsdp),
    }
    return {name: deviation for name, (deviation, is_so) in applies.items() if is_so}


def _reading(setup: Setup, timed: bool) -> dict[str, float]:
    """What is not known of the run itself: its code, its lengths, what a row or a recipe leaves open."""
    seen = SEEN.timed_frameworks if timed else SEEN.frameworks
    varies = setup.seq_kind.startswith("variable")
    applies = {
        f"{setup.framework}'s model code": (0.1 if setup.traits.known else 0.17, setup.framework not in seen),
        "varying lengths": (0.1 if timed else 0.2, varies),
        "rows shorter than the limit": (0.05, setup.seq_kind in ("trunc_max", "limit")),
    }
    inferred = {f"inferred: {name}": INFERRED.get(name, 0.05) for name in setup.unknown}
    return {name: deviation for name, (deviation, is_so) in applies.items() if is_so} | inferred


INFERRED = {"grad_ckpt": 0.12, "loss_impl": 0.08, "card": 0.4, "seq_len": 0.3, "framework": 0.08, "strategy": 0.1}
"""Deviations of cells that a row infers or leaves open; others 0.05."""


def _speed(setup: Setup) -> dict[str, float]:
    card = RELATIVES.get(setup.card, setup.card)
    measured = setup.gpu.measured > 0
    short = setup.tokens < 2048
    applies = {
        f"the throughput of a {setup.card}": (0.1 if measured else 0.17, card not in SEEN.cards),
        "a GPU with a power limit": (0.06, setup.power > 0),
        "GPUs without peer access": (0.08, not setup.gpu.peer and setup.world > 1),
        "several machines": (0.08, setup.world > setup.node),
        "short micro-batches": (0.11, short),
    }
    return {name: deviation for name, (deviation, is_so) in applies.items() if is_so}


SAYS_LITTLE = 0.05
"""Deviations up to this are not reported."""


def weak(setup: Setup, timed: bool = False) -> tuple[str, ...]:
    """The parts of a setup that estimates were never checked against, as short phrases. timed: for the step time."""
    parts = deviations(setup, timed)
    return tuple(name for name, deviation in parts.items() if deviation > SAYS_LITTLE)


HELD = ("reserved_peak", "nvidia_smi")
LEFT_BEHIND = 0.2
"""Deviation of what the allocator holds where rows differ in length below a limit: blocks that no later batch fits. The one
source that estimates were held to empties the cache after each step (peft, method_comparison: run.py), which other code does not.
"""


def deviation_of(setup: Setup, kind: str) -> float:
    """Standard deviation of the logarithm of an estimate of that kind."""
    parts = deviations(setup, timed=kind == "step").values()
    left = LEFT_BEHIND if kind in HELD and setup.seq_kind in ("trunc_max", "limit") else 0.0
    return math.hypot(KINDS[kind], left, *parts)


def interval(setup: Setup, kind: str, estimate: float) -> tuple[float, float]:
    """Least and most, in the estimate's unit, that nine of ten runs should show."""
    half = NINE_OF_TEN * deviation_of(setup, kind)
    return estimate * math.exp(-half), estimate * math.exp(half * UPWARD.get(kind, MEMORY_UPWARD))
