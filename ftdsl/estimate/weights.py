"""What stays on a card from step to step: weights, gradients, optimizer states, and what one step needs beside them."""

from __future__ import annotations

from ftdsl.estimate.setup import BYTES, Setup
from ftdsl.record import value

QUANT_BYTES = {
    "nf4": 0.5 + 4 / 64,
    "nf4-dq": 0.5 + 1 / 64 + 4 / (64 * 256),
    "int8": 1.0 + 4 / 4096,
    "gptq4": 0.5 + 2 / 128 + 0.5 / 128,
    "gptq8": 1.0 + 2 / 128 + 1 / 128,
}
"""Bytes of a quantised weight with its scales: nf4 has an fp32 scale for 64 (QLoRA, arXiv:2305.14314, 3), itself in 8 bits
with an fp32 scale for 256 when doubly quantised; GPTQ an fp16 scale and a zero for each group of 128 (AutoGPTQ's default)."""

EIGHT_BIT_STATES = 2 + 2 * 4 / 256
"""adamw8bit: two moments of one byte, an fp32 scale for each block of 256 (bitsandbytes, functional.quantize_blockwise)."""

ZERO3_SUB_GROUP = 1e9
"""Elements that ZeRO-3 steps at a time (DeepSpeed, zero/config.py: sub_group_size)."""

ADAPTER_PROMPT = 10
"""LLaMA-Adapter's prompt length and the layers it leaves out (arXiv:2303.16199, and litgpt's adapter.py: 10 and 2)."""


@value
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
    """The elements of a pipeline stage on one card before data-parallel sharding."""
    a, tensor = setup.architecture, setup.tensor
    layers = -(-a.layers // setup.pipeline)
    experts = a.expert_params * max(1, a.experts) / setup.expert
    linear = layers * (a.attention_params + experts) / tensor
    rest = layers * (a.layer_params - a.layer_linear)
    embedding = a.embedding / tensor if first or (last and a.tied) else 0.0
    head = a.embedding / tensor if last and not (a.tied and not _unties(setup)) else 0.0
    other = a.outside - a.embedding * (1 if a.tied else 2)
    return Share(layers, linear, rest, embedding, head, other)


def _unties(setup: Setup) -> bool:
    """litgpt's GPT has a head of its own even where the model ties it (litgpt, model.py: lm_head without tying)."""
    return setup.framework == "litgpt"


def lora_params(setup: Setup, layers: int | None = None) -> float:
    """Elements of the adapters on one card. PEFT splits nothing by tensor parallelism but what it hangs on."""
    a = setup.architecture
    count = a.layers if layers is None else layers
    if setup.method == "lora":
        return setup.lora_rank * (count * _widths(setup) + _head_width(setup))
    if setup.method == "adapter":
        return max(0, count - 2) * (ADAPTER_PROMPT * a.hidden + a.heads)
    if setup.method == "adapter_v2":
        scales = sum(inner + outer for inner, outer in a.linears.values())
        return max(0, count - 2) * (ADAPTER_PROMPT * a.hidden + a.heads) + count * (scales + a.norms * a.norm_params)
    return 0.0


def _widths(setup: Setup) -> int:
    """Inputs and outputs of the adapted maps of a layer; all experts of an adapted MLP have adapters."""
    a = setup.architecture
    found = 0
    for name, (inner, outer) in a.linears.items():
        if name in setup.lora_targets:
            found += (inner + outer) * (max(1, a.experts) if name in ("gate", "up", "down") else 1)
    return found


def _head_width(setup: Setup) -> int:
    a = setup.architecture
    return a.hidden + a.vocab if "head" in setup.lora_targets else 0


def trainable(setup: Setup, part: Share) -> float:
    """Trained elements of a part."""
    if not setup.adapts:
        return part.total
    whole = part.embedding + part.head if setup.trains_embeddings else 0.0
    return lora_params(setup, part.layers) + whole


def weight_bytes(setup: Setup, part: Share) -> float:
    """Bytes of all weights of a part, before data-parallel sharding."""
    base = BYTES[setup.base_dtype]
    if not setup.adapts:
        return part.total * base
    linear = part.linear * QUANT_BYTES.get(setup.quant, base)
    head = part.head * (QUANT_BYTES.get(setup.quant, base) if quantises_head(setup) else _kept(setup))
    copies = trained_copies(setup, part)
    return linear + head + (part.rest + part.embedding + part.other) * _kept(setup) + copies


def trained_copies(setup: Setup, part: Share) -> float:
    """Bytes of what is added beside a frozen base: adapters, and the trained copies of embedding and head."""
    return trainable(setup, part) * BYTES[setup.train_dtype]


def quantises_head(setup: Setup) -> bool:
    """Lightning's bitsandbytes plugin replaces every linear map, the head too; transformers leaves the head alone."""
    return setup.framework == "litgpt" and setup.quant != "none"


def dequantised_head(setup: Setup) -> float:
    """Bytes of a quantised head as it is applied: a 16-bit copy of all of it."""
    return 2.0 * setup.architecture.embedding if quantises_head(setup) else 0.0


def autocast_copies(setup: Setup, part: Share) -> float:
    """Bytes of the 16-bit copies that autocast keeps of fp32 weights until the forward pass is over, and autograd after it."""
    cast = setup.autocast and setup.base_dtype == "fp32" and not setup.fsdp and not setup.zero
    return 2.0 * part.linear if cast else 0.0


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
    main = 4.0 if setup.framework == "megatron" else BYTES[setup.train_dtype]
    return trainable(setup, part) * main


def state_bytes(setup: Setup, part: Share) -> float:
    """Bytes of optimizer states and master copies, unsharded, as torch's allocator sees them."""
    name = setup.optimizer
    if name.startswith("paged") or setup.offload in ("optim", "params"):
        return 0.0
    wide = 4.0 if setup.master else BYTES[setup.train_dtype]
    states = {"sgd": 0.0}.get(name, EIGHT_BIT_STATES if "8bit" in name else 2 * wide)
    return trainable(setup, part) * (states + (4.0 if setup.master else 0.0))


def step_bytes(setup: Setup, part: Share) -> float:
    """What the step itself needs on one card. Torch's default `foreach` AdamW makes one temporary as large as the trained
    weights (the root of the second moment); fused and 8-bit kernels, SGD and steps inside backward make none. DeepSpeed
    makes the fp32 gradients of its part (zero/stage_1_and_2.py: step), ZeRO-3 of a sub-group of 1e9."""
    mine = trainable(setup, part) / setup.state_shards
    if setup.opt_in_backward or setup.offload != "none":
        return 0.0
    if setup.zero:
        return 4.0 * (min(mine, ZERO3_SUB_GROUP) if setup.weight_shards > 1 or setup.strategy == "zero3" else mine)
    if setup.optimizer in ("sgd", "adamw_fused") or "8bit" in setup.optimizer:
        return 0.0
    return mine * (4.0 if setup.master else BYTES[setup.train_dtype])


def layer_weight_bytes(setup: Setup, gathered: bool = True) -> float:
    """Bytes of one layer as it is gathered for computing: 16-bit, or as quantised."""
    a = setup.architecture
    plain = 2.0 if setup.autocast or setup.base_dtype != "fp32" else 4.0
    per = QUANT_BYTES.get(setup.quant, plain) if setup.adapts else plain
    linear = a.attention_params + a.expert_params * max(1, a.experts) / setup.expert
    return (linear * per + (a.layer_params - a.layer_linear) * plain) / setup.tensor
