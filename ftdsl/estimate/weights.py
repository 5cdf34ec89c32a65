"""What stays on a GPU from step to step: weights and gradients."""

from __future__ import annotations

from ftdsl.estimate import trained
from ftdsl.estimate.setup import BYTES, Setup
from ftdsl.record import frozen

QUANT_BYTES = {
    "nf4": 0.5 + 4 / 64,
    "nf4-dq": 0.5 + 1 / 64 + 4 / (64 * 256),
    "int8": 1.0 + 4 / 4096,
    "gptq4": 0.5 + 2 / 128 + 0.5 / 128,
    "gptq8": 1.0 + 2 / 128 + 1 / 128,
}
"""Bytes of a quantised weight with its scales: nf4 has an fp32 scale for 64 (QLoRA, arXiv:2305.14314, 3), itself in 8 bits
with an fp32 scale for 256 when doubly quantised; GPTQ an fp16 scale and a zero for each group of 128 (AutoGPTQ's default)."""


@frozen(eq=True)
class Share:
    """The part of a model on one card: layers of a pipeline stage, split by tensor (and expert) parallelism, in elements."""

    layers: int
    linear: float
    rest: float
    embedding: float
    head: float
    other: float

    @property
    def total(self) -> float:
        return self.linear + self.rest + self.embedding + self.head + self.other


def share(setup: Setup, first: bool = True, last: bool = True) -> Share:
    """The elements of a pipeline stage on one GPU before data-parallel sharding."""
    a, tensor = setup.architecture, setup.tensor
    layers = -(-a.layers // setup.pipeline)
    linear = layers * (a.attention_params + a.dense_params + a.routed_params / setup.expert) / tensor
    rest = layers * (a.layer_params - a.layer_linear)
    embedding = a.embedding / tensor if first or (last and a.tied) else 0.0
    head = a.embedding / tensor if last and not (a.tied and not _unties(setup)) else 0.0
    other: float = a.outside - a.embedding * (1 if a.tied else 2)
    if (
        other < 0
    ):  # fewer parameters than counted: those too many are of matrices that are split (OPT-350m: its embedding)
        other /= tensor
    return Share(layers, linear, rest, embedding, head, other)


def _unties(setup: Setup) -> bool:
    """litgpt's GPT has a head of its own even where the model ties it (litgpt, model.py: lm_head without tying)."""
    return setup.traits.own_head


def trainable(setup: Setup, part: Share) -> float:
    """Trained elements of a part. Of `freeze` the whole layers, in the stage that holds them all."""
    if setup.method == "full":
        # vision and audio towers are frozen by default (llamafactory, hparams/finetuning_args.py: freeze_vision_tower)
        return part.total - min(part.other, setup.architecture.tower)
    whole = part.embedding + part.head if setup.trains_embeddings else 0.0
    if setup.method == "freeze":
        layers = min(setup.trained_layers, part.layers)
        return layers * (part.linear + part.rest) / part.layers + whole
    return trained.adapter(setup, part.layers) + whole


def weight_bytes(setup: Setup, part: Share) -> float:
    """Bytes of all weights of a part, before data-parallel sharding."""
    base = BYTES[setup.base_dtype]
    if not setup.adapts:
        return part.total * base
    if setup.method == "freeze":
        # trained layers are cast where they are (llamafactory, model/adapter.py: _setup_freeze_tuning)
        return (part.total - trainable(setup, part)) * base + trained_copies(setup, part)
    linear = part.linear * QUANT_BYTES.get(setup.quant, base)
    head = part.head * (QUANT_BYTES.get(setup.quant, base) if quantises_head(setup) else _kept(setup))
    copies = trained_copies(setup, part)
    return linear + head + (part.rest + part.embedding + part.other) * _kept(setup) + copies


def trained_copies(setup: Setup, part: Share) -> float:
    """Bytes added to a frozen base: adapters, and trained copies of embedding and head."""
    return trainable(setup, part) * BYTES[setup.train_dtype]


def quantises_head(setup: Setup) -> bool:
    """Lightning's bitsandbytes plugin replaces every linear map, the head too; transformers leaves the head alone."""
    return setup.traits.quantises_head and setup.quant != "none"


def dequantised_head(setup: Setup) -> float:
    """Bytes of a quantised head as it is applied: a 16-bit copy of all of it."""
    return 2.0 * setup.architecture.embedding if quantises_head(setup) else 0.0


def autocast_copies(setup: Setup, part: Share) -> dict[str, float]:
    """Bytes of the 16-bit copies that autocast makes of fp32 weights, by phase. Its cache holds those of trained weights until
    the forward pass is over (torch, autocast_mode.cpp: cached_cast), autograd those it needs until a layer's backward pass is;
    where layers are checkpointed, each makes its own again and drops it. By the step all are gone. Watched on a small Llama
    under torch 2.8, trained and frozen, without checkpointing and with both kinds of it."""
    if not (setup.autocast and setup.base_dtype == "fp32") or setup.fsdp or setup.zero:
        return dict.fromkeys(("forward", "last", "first", "step"), 0.0)
    linear, head = 2.0 * part.linear, 2.0 * (part.head or part.embedding)
    layer = linear / part.layers
    kept = setup.checkpointing == "none"
    return {
        "forward": head + (linear if kept or not setup.adapts else 0.0),
        "last": linear if kept else layer,
        "first": layer,
        "step": 0.0,
    }


def _kept(setup: Setup) -> float:
    """Bytes of a weight that is not quantised: `prepare_model_for_kbit_training` casts those to fp32 (peft, utils/other.py),
    though not for GPTQ, and FSDP casts them back when it wraps. In bf16 the trainers cast embedding and head back as well
    (trl, trainer/utils.py: peft_module_casting_to_bf16; QLoRA's own script): fms rows with and without preparation differ by
    the residual stream alone."""
    casts = setup.kbit_prepare and not setup.quant.startswith("gptq") and not setup.fsdp and setup.base_dtype != "bf16"
    return 4.0 if casts else BYTES[setup.base_dtype]


def gradient_bytes(setup: Setup, part: Share) -> float:
    """Bytes of gradients of a part, unsharded: in the dtype of the trained weights; Megatron sums in fp32."""
    if setup.opt_in_backward or setup.strategy == "gemini":
        # Gemini (ColossalAI) puts gradients where the weights were
        return 0.0
    if setup.optimizer == "badam":
        # of the block at work alone, cast to fp32 one by one (arXiv:2404.02827, 3)
        return 4.0 * (part.linear + part.rest) / part.layers
    main = 4.0 if setup.traits.fp32_gradients else BYTES[setup.train_dtype]
    return trainable(setup, part) * main


def reference_bytes(setup: Setup) -> float:
    """Bytes of the frozen models beside the one that is trained, before sharding: a reference, a reward model. Adapters need no
    copy, since the model without its adapter is the reference (llamafactory, train/trainer_utils.py: create_ref_model)."""
    plain = BYTES[setup.reference_dtype]
    others = plain * sum(model.params for model in setup.teachers)
    if not setup.references:
        return others
    a = setup.architecture
    linear = a.layers * a.layer_linear
    return others + setup.references * (
        linear * QUANT_BYTES.get(setup.reference_quant, plain) + plain * (a.params - linear)
    )


def judge_bytes(setup: Setup) -> float:
    """Bytes of reward models, which no strategy shards."""
    return BYTES[setup.reference_dtype] * sum(model.params for model in setup.judges)


def layer_weight_bytes(setup: Setup, gathered: bool = True) -> float:
    """Bytes of one layer as it is gathered for computing: 16-bit, or as quantised."""
    a = setup.architecture
    plain = setup.compute_bytes
    per = QUANT_BYTES.get(setup.quant, plain) if setup.adapts else plain
    linear = a.attention_params + a.dense_params + a.routed_params / setup.expert
    return (linear * per + (a.layer_params - a.layer_linear) * plain) / setup.tensor
