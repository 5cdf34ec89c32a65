"""Peak memory of one card: the largest of the phases of a step, each a sum of terms.

forward:   end of the forward pass: checkpoints of all layers, logits and what the loss makes of them
last:      backward of the last layer: all checkpoints and one layer recomputed
first:     backward of the first layer: all gradients and one layer
step:      the optimizer's step: all gradients and its temporaries
"""

from __future__ import annotations

from ftdsl.estimate import layer, loss, sharding, weights
from ftdsl.estimate.setup import Setup
from ftdsl.record import record

GIB = 2.0**30


@record
class Phase:
    """Bytes by term at one moment of a step."""

    name: str
    terms: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.terms.values())


@record
class Memory:
    """Bytes on the fullest card. `phases` in order; `low` and `high`: the interval of the peak."""

    phases: tuple[Phase, ...]
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def allocated(self) -> float:
        """Bytes that tensors take at the peak (torch's max_memory_allocated)."""
        return self.peak.total


def memory(setup: Setup) -> Memory:
    """Peak memory of the fullest card. Raises: NotModelledError."""
    stages = [(True, setup.pipeline == 1)] if setup.pipeline == 1 else [(True, False), (False, True)]
    found = [_stage(setup, first, last) for first, last in stages]
    return max(found, key=lambda one: one.allocated)


def _stage(setup: Setup, first: bool, last: bool) -> Memory:
    part = weights.share(setup, first, last)
    static = _static(setup, part)
    tokens = setup.tokens
    checkpoints = _kept_activations(setup, part.layers, first)
    held_grads = {"gradients": _gradients(setup, part)} if setup.accumulate > 1 or setup.strategy == "ddp" else {}
    one = _one_layer(setup, part.layers) * tokens
    gathered = {
        "gathered weights": sharding.gathered(setup),
        "buffers": sharding.bucket(setup, weights.trainable(setup, part)),
    }
    double = _second_copy(setup, part.layers)
    phases = (
        Phase(
            "forward",
            static
            | held_grads
            | gathered
            | {
                "checkpoints": checkpoints,
                "logits": loss.loss_bytes(setup) if last else 0.0,
                "hidden states": loss.tokenwise_bytes(setup),
            },
        ),
        Phase("last", static | held_grads | gathered | {"checkpoints": checkpoints, "one layer": one}),
        Phase(
            "first",
            static
            | gathered
            | {
                "gradients": _gradients(setup, part),
                "checkpoints": checkpoints / max(1, part.layers) + double,
                "one layer": one,
            },
        ),
        Phase(
            "step",
            static
            | {"gradients": _gradients(setup, part), "step": weights.step_bytes(setup, part) / setup.state_shards},
        ),
    )
    return Memory(phases)


def _static(setup: Setup, part: weights.Share) -> dict[str, float]:
    return {
        "weights": weights.weight_bytes(setup, part) / setup.weight_shards,
        "optimizer": weights.state_bytes(setup, part) / setup.state_shards,
    }


def _gradients(setup: Setup, part: weights.Share) -> float:
    return weights.gradient_bytes(setup, part) / setup.gradient_shards


def _second_copy(setup: Setup, layers: int) -> float:
    """FSDP1 with frozen weights: gradients of all layers' inputs are alive at the end of the backward pass."""
    if not (setup.fsdp and setup.adapts and setup.checkpointing != "none"):
        return 0.0
    return 2 * layers * layer.boundary(setup) * setup.tokens


def _kept_activations(setup: Setup, layers: int, first: bool) -> float:
    """Bytes kept from forward to backward: a layer's input each, or everything."""
    in_flight = setup.pipeline if first else 1
    bound = 0.0 if setup.offload_activations else layer.boundary(setup)
    whole = layer.saved(setup)
    per = {"full": bound, "none": bound + whole, "selective_layer": bound + whole / 2}.get(
        setup.checkpointing, bound + whole * 0.5
    )
    return per * layers * setup.tokens * in_flight * (setup.compute_bytes / 2)


def _one_layer(setup: Setup, layers: int) -> float:
    again = layer.saved(setup) if setup.checkpointing != "none" else 0.0
    return (again + layer.transient(setup)) * (setup.compute_bytes / 2)
