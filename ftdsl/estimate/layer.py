"""Activations of one layer: what autograd saves of it, and what its backward pass needs beside.

All figures are bytes a token on one card, for 16-bit activations (`compute_bytes` scales fp32 runs), counted tensor by tensor
from transformers' Llama code (modeling_llama.py) with torch's autograd rules; docs/planner.md has the list.
"""

from __future__ import annotations

from ftdsl.estimate.setup import Setup

OWN_ROPE = {"mistral", "mixtral"}
"""Families for which queries, keys and values before rotation stay beside the rotated ones (fms rows of Mistral-7B against
Llama-3-8B, same sizes: 3 h a token, which is 2 (q + 2 kv))."""


def saved(setup: Setup) -> float:
    """What stays of a layer between forward and backward without checkpointing, its input left out."""
    return _norms(setup) + _attention(setup) + _mlp(setup) + lora_inputs(setup)


def _wide(setup: Setup) -> int:
    """What sequence parallelism leaves of the parts outside matmuls (Megatron splits them by tensor parallelism too)."""
    return setup.tensor


def _norms(setup: Setup) -> float:
    """Each norm: its fp32 input when written in eager torch (HF's RMSNorm upcasts), else the 16-bit input; and the output
    where a trained linear map reads it."""
    a = setup.architecture
    eager = setup.norms == "eager" and a.norm == "rms" and not setup.compile
    count = a.norms
    inputs = 4 * count if eager else 2 * (count - 1)
    outputs = 2 * min(2, count) if not setup.adapts else 0
    return (inputs + outputs) * a.hidden / _wide(setup)


def _attention(setup: Setup) -> float:
    """Rotated queries and keys, values, the attention's output, its log-sum; whole score matrices when eager."""
    a = setup.architecture
    widths = 2 * (a.q + 2 * a.kv) + 2 * a.q + 4 * a.heads
    if a.family in OWN_ROPE:
        widths += 2 * (a.q + 2 * a.kv)
    if setup.attention == "eager":
        # scores in 16 bit, softmax in fp32, its 16-bit copy: 2 + 4 + 2 for each pair of tokens
        widths += 8 * a.heads * setup.seq_len
    return widths / setup.tensor


def _mlp(setup: Setup) -> float:
    """Gate, up and silu(gate), or up and its activation; the product where the last map is trained. A token of a mixture
    meets `experts_used` of them."""
    a = setup.architecture
    parts = 6 if a.gated else 4
    if not setup.adapts:
        parts += 2 if a.gated else 0
    if setup.norms == "fused" and a.gated and setup.framework != "hf":
        parts -= 2
    return parts * a.ffn * max(1, a.experts_used) / setup.tensor


def lora_inputs(setup: Setup) -> float:
    """The input of each adapter, saved for the gradient of A. Adapters in fp32 upcast it, each for itself (peft,
    lora/layer.py: _cast_input_dtype); 16-bit ones share one tensor, unless dropout makes a copy and a mask for each."""
    if setup.method != "lora":
        return 0.0
    a = setup.architecture
    wide = 4 if setup.train_dtype == "fp32" else 2
    targets = {name: inner for name, (inner, _) in a.linears.items() if name in setup.lora_targets}
    if wide == 2 and not setup.lora_dropout:
        shared = {name: inner for name, inner in targets.items() if name not in ("k", "v", "up")}
        return sum(2.0 * inner for name, inner in shared.items() if name != "o")
    extra = 1 if setup.lora_dropout else 0
    used = max(1, a.experts_used)
    return sum(
        (wide + extra) * inner * (used if name in ("gate", "up", "down") else 1) for name, inner in targets.items()
    )


def transient(setup: Setup) -> float:
    """What the backward pass of one layer needs beside what is saved: gradients of the MLP's inner tensors and two of the
    residual stream (fms, full fine-tuning of Mistral-7B and Llama-3-8B: 4 f + 4 h)."""
    a = setup.architecture
    return (4 * a.ffn * max(1, a.experts_used) + 4 * a.hidden) / setup.tensor


def boundary(setup: Setup) -> float:
    """The input of a layer, which checkpointing keeps: the residual stream, in fp32 after kbit preparation (peft casts the
    norms and embeddings, so that the stream is fp32; not for GPTQ, and FSDP casts back)."""
    doubled = setup.kbit_prepare and setup.quant != "none" and not setup.quant.startswith("gptq") and not setup.fsdp
    split = setup.tensor if setup.framework in ("megatron", "torchtitan") else 1
    return (4 if doubled else 2) * setup.architecture.hidden / split
