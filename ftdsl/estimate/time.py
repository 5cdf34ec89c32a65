"""Seconds of a step on one GPU, a roofline with overheads: what computes, moves, communicates, waits."""

from __future__ import annotations

import math

from ftdsl.estimate import comms, compute, constants, layer, loss, rollout, states, weights
from ftdsl.estimate.interval import interval
from ftdsl.estimate.memory import memory
from ftdsl.estimate.setup import ALPACA_MEAN, BYTES, Setup
from ftdsl.record import frozen, replace

HIDDEN_LAUNCHES = 4.0
"""How sharply the slower of GPU and CPU decides a layer's time: the power of their mean (4: 19 % more where both are equal)."""


@frozen
class Time:
    """Seconds of one optimizer step, and the terms it is made of (terms may hide behind each other)."""

    setup: Setup
    step: float
    terms: dict[str, float]

    @property
    def tokens_per_gpu(self) -> float:
        """Tokens a second and GPU."""
        s = self.setup
        return s.tokens * s.context * s.accumulate * s.data / s.world / self.step

    @property
    def interval(self) -> tuple[float, float]:
        """Least and most seconds of a step that nine of ten runs should show."""
        return interval(self.setup, "step", self.step)

    def total(self, tokens: float) -> float:
        """Seconds for so many tokens, all GPUs together, without saving and evaluating."""
        return tokens / (self.tokens_per_gpu * self.setup.world)


def time(setup: Setup) -> Time:
    """The step time of a set-up, whose batches are as long as they are on average. Raises: NotModelledError for a GPU that is not
    in the catalogue.
    """
    if "alpaca" in setup.seq_kind and setup.seq_len > ALPACA_MEAN:
        setup = replace(setup, seq_len=ALPACA_MEAN)
    layers = -(-setup.architecture.layers // setup.pipeline)
    terms = {
        "matmul": compute.matmul(setup) * layers,
        "attention": compute.attention(setup) * layers,
        "elementwise": compute.elementwise(setup) * layers,
        "unpacking": compute.unpacking(setup) * layers,
        "launching": compute.launching(setup) * layers,
        "head and loss": compute.head(setup)
        + compute.stream(setup, loss.moved_bytes(setup) * constants.FITTED.loss_traffic),
        "forwards": _forwards(setup, compute.matmul(setup) * layers),
        "gathering": comms.gathering(setup) * layers,
        "splitting": comms.splitting(setup) * layers,
        "offloading": _offloading(setup) * layers,
        "reducing": comms.reducing(setup),
        "optimizer": _optimizer(setup),
        "generation": rollout.seconds(setup),
    }
    micro = _micro(setup, terms)
    # a pipeline fills and drains once a step, a bubble of p - 1 micro-batches, less where stages interleave
    # (arXiv:2104.04473, 2.2: the bubble is (p - 1) / (m v))
    turns = setup.accumulate + (setup.pipeline - 1) / setup.virtual
    if setup.strategy == "device_map":
        # without a schedule one GPU works at a time
        turns = setup.accumulate * setup.pipeline
    body = micro * turns
    exposed = max(0.0, terms["reducing"] - constants.FITTED.overlap * micro * 0.6)
    moved = comms.host(setup, setup.accumulate * 2.0)
    return Time(
        setup,
        body
        + exposed
        + moved
        + terms["generation"]
        + terms["optimizer"]
        + constants.FITTED.step * compute.host_speed(setup),
        terms | {"host": moved},
    )


def _micro(setup: Setup, terms: dict[str, float]) -> float:
    """Seconds of one micro-batch: the GPU and the CPU that feeds it go side by side, and gathers and offloading hide behind
    both, up to a part."""
    card = sum(terms[name] for name in ("matmul", "attention", "elementwise", "unpacking"))
    card += terms["forwards"]
    work = math.pow(card**HIDDEN_LAUNCHES + terms["launching"] ** HIDDEN_LAUNCHES, 1 / HIDDEN_LAUNCHES)
    overlap = constants.FITTED.overlap
    hidden = terms["gathering"] + terms["offloading"]
    exposed = max(0.0, hidden - overlap * work) + (1 - overlap) * 0.5 * min(hidden, work)
    # exchanges of tensor parallelism hide behind the products they wait for where the framework cuts both into pieces
    split = terms["splitting"] * (SPLIT_EXPOSED if setup.traits.overlaps_tensor else 1.0)
    return work + exposed + split + terms["head and loss"]


SPLIT_EXPOSED = 0.3
"""What is left in sight of tensor parallelism's exchanges where they overlap (Transformer Engine's userbuffers)."""

FORWARDS = {"dpo": 1, "kto": 3, "ppo": 1}
"""Forward passes beside the policy's own: the reference's; KTO's KL term is a pass of both (llamafactory, train/kto/trainer.py).
PPO's rollouts are not among them."""


def _forwards(setup: Setup, products: float) -> float:
    """Seconds of passes without gradient, at the rate of the policy's matrix products."""
    return (FORWARDS.get(setup.objective, 0) + rollout.forwards(setup)) * products / compute.passes(setup)


def _offloading(setup: Setup) -> float:
    """Seconds to carry a layer's checkpoint to the host and back."""
    if not setup.offload_activations:
        return 0.0
    return 2 * layer.boundary(setup) * setup.tokens / (setup.gpu.pcie * 1e9 * 0.8)


def _optimizer(setup: Setup) -> float:
    """Seconds of the step on the card: weights, gradients and states read and written; torch's foreach does so in several
    sweeps, half as much again."""
    if setup.offload != "none":
        return 0.0
    part = weights.share(setup)
    mine = weights.trainable(setup, part) / setup.state_shards / setup.pipeline
    wide = BYTES[setup.train_dtype]
    held = states.held(setup, part) * mine / max(1.0, weights.trainable(setup, part))
    moved = mine * 3 * wide + 2 * held
    sweeps = 1.0 if setup.optimizer == "adamw_fused" or setup.zero else 1.5
    return compute.stream(setup, moved * sweeps) + _paging(setup, held)


def _paging(setup: Setup, held: float) -> float:
    """Seconds for paged states that the GPU has no room for: they come over for the step and go back."""
    if not setup.optimizer.startswith("paged"):
        return 0.0
    room = setup.capacity - memory(setup).allocated
    return 2 * max(0.0, held - max(0.0, room)) / (setup.gpu.pcie * 1e9 * 0.8)
