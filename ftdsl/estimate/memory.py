"""Peak memory of one GPU: the largest of the phases of a step, each a sum of terms.

forward:   end of the forward pass: checkpoints of all layers, logits and what the loss makes of them
last:      backward of the last layer: all checkpoints and one layer recomputed
first:     backward of the first layer: all gradients and one layer
step:      the optimizer's step: all gradients and its temporaries
evaluation: logits of an evaluation in addition to weights and states
generation: the model writes the answers that the step trains on
"""

from __future__ import annotations

from ftdsl.estimate import layer, loss, reserve, rollout, sharding, states, trained, weights
from ftdsl.estimate.interval import interval
from ftdsl.estimate.setup import Setup
from ftdsl.record import frozen, replace

GIB = 2.0**30


@frozen
class Phase:
    """Bytes by term in one phase of a step."""

    name: str
    terms: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.terms.values())


@frozen
class Memory:
    """Bytes on the fullest GPU; phases in the order of a step."""

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
    """Peak memory of the fullest GPU. Raises: NotModelledError."""
    stages = [(True, setup.pipeline == 1)] if setup.pipeline == 1 else [(True, False), (False, True)]
    stage_memories = [_stage(setup, first, last) for first, last in stages]
    return max(stage_memories, key=lambda stage: stage.allocated)


def _stage(setup: Setup, first: bool, last: bool) -> Memory:
    """The phases of one pipeline stage: with the embedding when first, with the head when last."""
    part = weights.share(setup, first, last)
    gradients = {"gradients": _gradients(setup, part)}
    static = _static(setup, part)
    if setup.references or setup.teachers or setup.judges:
        shared = weights.reference_bytes(setup) / setup.weight_shards / setup.tensor / setup.pipeline
        static["frozen models"] = shared + weights.judge_bytes(setup)
    if setup.served:
        static["vLLM"] = setup.served * setup.capacity
    running = static | _gathered(setup, part)
    if mask := layer.mask_bytes(setup):
        running["mask"] = mask
    # litgpt under FSDP is measured on its longest sample, which comes first, when no gradients have been summed up
    summed = (setup.accumulate > 1 or setup.strategy == "ddp") and not (setup.traits.longest_first and setup.fsdp)
    held = running | gradients if summed else running
    kept = {"checkpoints": _kept_activations(setup, part.layers, first)}
    one_layer = {"one layer": _one_layer(setup)}
    whole = {"whole gradients": sharding.whole_gradients(setup) if last or setup.fsdp else 0.0}
    at_end = {"checkpoints": max(kept["checkpoints"] / part.layers, _second_copy(setup, part.layers))}
    phases = {
        "forward": _forward(setup, held, last) | kept,
        "last": held | kept | one_layer | whole,
        "first": running | gradients | at_end | one_layer | (whole if setup.fsdp else {}),
        "step": static | gradients | {"step": states.step_bytes(setup, part)},
    }
    if setup.eval_batch and last:
        phases["evaluation"] = running | _evaluation(setup)
    if rollout.rows(setup):
        phases["generation"] = rollout.terms(setup, part, running)
    copies = weights.autocast_copies(setup, part)
    if rollout.rows(setup):
        copies["generation"] = copies["forward"]  # each token's pass makes them again
    return Memory(setup, tuple(Phase(name, _with(terms, copies.get(name, 0.0))) for name, terms in phases.items()))


def _with(terms: dict[str, float], copies: float) -> dict[str, float]:
    return terms | {"autocast copies": copies} if copies else terms


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
    """Weights and optimizer states that stay on the GPU."""
    stays = 0.0 if setup.offload == "params" else weights.weight_bytes(setup, part) / setup.weight_shards
    return {
        "weights": stays,
        "optimizer": states.state_bytes(*_unsplit(setup, part)) / setup.state_shards,
    }


def _unsplit(setup: Setup, part: weights.Share) -> tuple[Setup, weights.Share]:
    """The part as states are spread: those of experts over the ranks that share them, so that experts times ranks is all
    ranks."""
    if setup.expert == 1 or setup.state_shards == 1:
        return setup, part
    whole = replace(setup, expert=1)
    return whole, weights.share(whole, part.embedding > 0, part.head > 0)


def _gradients(setup: Setup, part: weights.Share) -> float:
    """Bytes of all gradients on the GPU; offloaded ones leave it bucket by bucket."""
    if setup.offload != "none":
        return 0.0
    if setup.traits.unsharded_sums and setup.fsdp and setup.adapts:
        # a block is one flat parameter that has a gradient as a whole because of its adapter, and no_backward_sync sums it up
        # unsharded
        return weights.weight_bytes(setup, part) / (1 if setup.accumulate > 1 else setup.gradient_shards)
    return weights.gradient_bytes(setup, part) / setup.gradient_shards


def _second_copy(setup: Setup, layers: int) -> float:
    """FSDP1 with frozen weights: gradients of all layers' inputs are alive at the end of the backward pass."""
    second = setup.fsdp and not setup.fsdp2 and setup.adapts and setup.checkpointing != "none"
    if not second or setup.traits.unsharded_sums:
        return 0.0
    return 2 * (layers - 1) * layer.boundary(setup) * setup.tokens


def _kept_activations(setup: Setup, layers: int, first: bool) -> float:
    """Bytes kept from forward to backward; the first stage of a pipeline holds as many micro-batches as it has stages."""
    in_flight = _in_flight(setup) if first else 1
    per = layer.kept(setup) * layers
    if setup.method == "freeze":
        own = min(setup.trained_layers, layers)
        per = layer.kept(_whole(setup)) * own + layer.kept(setup) * (min(trained.crossed(setup), layers) - own)
    return per * setup.tokens * in_flight * (setup.compute_bytes / 2)


def _in_flight(setup: Setup) -> float:
    """Micro-batches whose activations the first stage of a pipeline holds: as many as stages, and where stages interleave a part
    of one for each more (arXiv:2205.05198, 4.2.3: 1 + (p - 1) / (p v) times as much)."""
    more = 1 + (setup.pipeline - 1) / (setup.pipeline * setup.virtual) if setup.virtual > 1 else 1.0
    return min(setup.pipeline * more, setup.accumulate)


def _whole(setup: Setup) -> Setup:
    """The set-up as a layer that is trained sees it."""
    return replace(setup, method="full") if setup.method == "freeze" else setup


def _one_layer(setup: Setup) -> float:
    """Bytes of one layer at work: by token, and what does not depend on tokens."""
    unsharded = _whole(setup)
    again = 0.0 if setup.checkpointing == "none" else layer.saved(unsharded)
    by_token = (again + layer.transient(unsharded)) * (setup.compute_bytes / 2) * setup.tokens
    return by_token + layer.dora_bytes(setup)


def _evaluation(setup: Setup) -> dict[str, float]:
    """Terms of an evaluation on the last stage; where it writes, keys and values of all tokens stay, and only the last token
    of a prompt has logits (transformers, generation/utils.py: logits_to_keep)."""
    terms = {"logits": loss.eval_bytes(setup), "one layer": _eval_layer(setup)}
    if not setup.generated:
        return terms
    a = setup.architecture
    rows = setup.eval_batch
    tokens = rows * (setup.seq_len + setup.generated)
    cache = 2 * setup.compute_bytes * a.kv * -(-a.layers // setup.pipeline) * tokens / setup.tensor
    return terms | {"logits": rows * a.vocab * loss.EVALUATED / setup.tensor, "keys and values": cache}


def _eval_layer(setup: Setup) -> float:
    """Bytes of a layer in an evaluation, where nothing is kept: the two inner tensors of the MLP, its input and the residual
    stream, each 16 bits."""
    a = setup.architecture
    width = (3 if a.gated else 2) * a.active_ffn + 2 * a.hidden
    return setup.compute_bytes * width * setup.eval_batch * setup.seq_len / setup.tensor
