"""Peak memory of one card: the largest of the phases of a step, each a sum of terms.

forward:   end of the forward pass: checkpoints of all layers, logits and what the loss makes of them
last:      backward of the last layer: all checkpoints and one layer recomputed
first:     backward of the first layer: all gradients and one layer
step:      the optimizer's step: all gradients and its temporaries
"""

from __future__ import annotations

from ftdsl.estimate import layer, loss, reserve, sharding, weights
from ftdsl.estimate.interval import interval
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
    """Bytes on the fullest card; phases in the order of a step."""

    setup: Setup
    phases: tuple[Phase, ...]

    @property
    def peak(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def allocated(self) -> float:
        """Bytes that tensors take at the peak (torch's max_memory_allocated)."""
        return self.peak.total

    @property
    def static(self) -> float:
        """Bytes that stay from step to step."""
        return self.peak.terms["weights"] + self.peak.terms["optimizer"]

    @property
    def reserved(self) -> float:
        """Bytes the caching allocator holds (torch's max_memory_reserved)."""
        return reserve.reserved(self.setup, self.static, self.allocated - self.static)

    @property
    def nvidia_smi(self) -> float:
        """Bytes nvidia-smi shows."""
        return reserve.nvidia_smi(self.setup, self.static, self.allocated - self.static)

    def interval(self, kind: str = "allocated_peak") -> tuple[float, float]:
        """Least and most of a kind of figure, in bytes, that nine of ten runs should show."""
        return interval(self.setup, kind, self.of(kind))

    def of(self, kind: str) -> float:
        """The estimate of a kind of figure, in bytes: allocated_peak, active_peak, reserved_peak, nvidia_smi, capacity."""
        known = {"reserved_peak": self.reserved, "capacity": self.reserved, "nvidia_smi": self.nvidia_smi}
        return known.get(kind, self.allocated)


def memory(setup: Setup) -> Memory:
    """Peak memory of the fullest card. Raises: NotModelledError."""
    stages = [(True, setup.pipeline == 1)] if setup.pipeline == 1 else [(True, False), (False, True)]
    found = [_stage(setup, first, last) for first, last in stages]
    return max(found, key=lambda one: one.allocated)


def _stage(setup: Setup, first: bool, last: bool) -> Memory:
    """The phases of one pipeline stage: with the embedding when first, with the head when last."""
    part = weights.share(setup, first, last)
    gradients = {"gradients": _gradients(setup, part)}
    static = _static(setup, part)
    running = static | _gathered(setup, part)
    # litgpt under FSDP is measured on its longest sample, which comes first, when no gradients have been summed up
    summed = (setup.accumulate > 1 or setup.strategy == "ddp") and not (setup.framework == "litgpt" and setup.fsdp)
    held = running | gradients if summed else running
    kept = {"checkpoints": _kept_activations(setup, part.layers, first)}
    one = {"one layer": _one_layer(setup) * setup.tokens}
    whole = {"whole gradients": sharding.whole_gradients(setup) if last or setup.fsdp else 0.0}
    at_end = {"checkpoints": max(kept["checkpoints"] / part.layers, _second_copy(setup, part.layers))}
    return Memory(
        setup,
        (
            Phase("forward", _forward(setup, held, last) | kept),
            Phase("last", held | kept | one | whole),
            Phase("first", running | gradients | at_end | one | (whole if setup.fsdp else {})),
            Phase("step", static | gradients | {"step": weights.step_bytes(setup, part)}),
        ),
    )


def _forward(setup: Setup, held: dict[str, float], last: bool) -> dict[str, float]:
    gathered = {"gathered weights": held["gathered weights"] - sharding.resharded(setup)}
    if not last:
        return held | gathered
    logits = loss.loss_bytes(setup) + weights.dequantised_head(setup)
    return held | gathered | {"logits": logits, "hidden states": loss.tokenwise_bytes(setup)}


def _gathered(setup: Setup, part: weights.Share) -> dict[str, float]:
    return {
        "gathered weights": sharding.gathered(setup, weights.weight_bytes(setup, part)),
        "buffers": sharding.bucket(setup, weights.trainable(setup, part)),
    }


def _static(setup: Setup, part: weights.Share) -> dict[str, float]:
    """Weights and optimizer states that stay on the card, and what autocast's cache copies."""
    stays = 0.0 if setup.offload == "params" else weights.weight_bytes(setup, part) / setup.weight_shards
    return {
        "weights": stays + weights.autocast_copies(setup, part),
        "optimizer": weights.state_bytes(setup, part) / setup.state_shards,
    }


def _gradients(setup: Setup, part: weights.Share) -> float:
    """Bytes of all gradients on the card; offloaded ones leave it bucket by bucket."""
    if setup.offload != "none":
        return 0.0
    if setup.framework == "litgpt" and setup.fsdp and setup.adapts:
        # a block is one flat parameter that has a gradient as a whole because of its adapter, and no_backward_sync sums it up
        # unsharded
        return weights.weight_bytes(setup, part) / (1 if setup.accumulate > 1 else setup.gradient_shards)
    return weights.gradient_bytes(setup, part) / setup.gradient_shards


def _second_copy(setup: Setup, layers: int) -> float:
    """FSDP1 with frozen weights: gradients of all layers' inputs are alive at the end of the backward pass."""
    second = setup.fsdp and not setup.fsdp2 and setup.adapts and setup.checkpointing != "none"
    if not second or setup.framework == "litgpt":
        return 0.0
    return 2 * (layers - 1) * layer.boundary(setup) * setup.tokens


def _kept_activations(setup: Setup, layers: int, first: bool) -> float:
    """Bytes kept from forward to backward; the first stage of a pipeline holds as many micro-batches as it has stages."""
    in_flight = min(setup.pipeline, setup.accumulate) if first else 1
    return layer.kept(setup) * layers * setup.tokens * in_flight * (setup.compute_bytes / 2)


def _one_layer(setup: Setup) -> float:
    again = 0.0 if setup.checkpointing == "none" else layer.saved(setup)
    return (again + layer.transient(setup)) * (setup.compute_bytes / 2)
