"""How sure an estimate is: half-widths from the residuals of published rows, by kind of figure, and what is weak."""

from __future__ import annotations

from ftdsl.estimate.setup import Setup

SPREAD = {
    "allocated_peak": 0.10,
    "active_peak": 0.10,
    "reserved_peak": 0.15,
    "nvidia_smi": 0.14,
    "capacity": 0.15,
    "step": 0.20,
}
"""Half-widths, as parts of the estimate. With the constants fitted without the rows' own source, nine of ten published rows lie
within 4 % (allocated; 95 of 100 within 11 %, and one family of sources has most rows), 10 % (nvidia-smi; 95 within 13 %), 14 %
(step time; 95 within 24 %). Reserved has four rows, within 8 %; its width is a guess."""

UNSEEN = 2.0
"""How much wider where no published row of ours has the feature."""

SEEN_CARDS = {"a100", "h100", "a10g", "l40s"}
SEEN_FRAMEWORKS = {"hf", "litgpt", "composer"}
SEEN_OPTIMIZERS = {"adamw", "adamw_fused", "decoupled_adamw", "paged_adamw", "adamw8bit", "paged_adamw8bit", "sgd"}
SEEN_STRATEGIES = {"single", "zero2", "zero3", "fsdp", "fsdp_grad_op"}


def weak(setup: Setup, timed: bool = False) -> tuple[str, ...]:
    """What of a set-up the estimates have not been held to, as short phrases. `timed`: for the step time."""
    a = setup.architecture
    found = {
        "mixture of experts": a.experts > 0,
        "pipeline parallelism": setup.pipeline > 1,
        "tensor parallelism": setup.tensor > 1,
        "context parallelism": setup.context > 1,
        "fp8": setup.quant == "fp8_compute",
        "offloading": setup.offload != "none" or setup.offload_activations,
        "selective checkpointing": setup.checkpointing.startswith("selective"),
        "compiled layers": setup.compile,
        "PPO's rollouts": setup.objective == "ppo",
        "a reference beside the model": setup.objective in ("dpo", "kto"),
        f"training by `{setup.method}`": setup.method in ("freeze", "oft"),
        "DoRA": setup.dora,
        f"the optimizer {setup.optimizer}": setup.optimizer not in SEEN_OPTIMIZERS,
        "varying lengths": setup.seq_kind.startswith("variable"),
        f"{setup.strategy} sharding": setup.strategy not in SEEN_STRATEGIES,
        f"{setup.framework}'s model code": setup.framework not in SEEN_FRAMEWORKS,
        f"how much of an {setup.card} is reached": timed and setup.card not in SEEN_CARDS - {"a10g", "l40s"},
    }
    return tuple(name for name, applies in found.items() if applies)


def half_width(setup: Setup, kind: str) -> float:
    """The half-width of an estimate of that kind, as a part of it."""
    spread = SPREAD[kind]
    return spread * UNSEEN if weak(setup, timed=kind == "step") else spread


def interval(setup: Setup, kind: str, estimate: float) -> tuple[float, float]:
    """Least and most, in the estimate's unit, that nine of ten runs should show."""
    half = half_width(setup, kind)
    return estimate * (1 - half), estimate * (1 + half)
