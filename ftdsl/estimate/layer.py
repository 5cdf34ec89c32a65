"""Activations of one layer: what autograd saves, and temporary memory of its backward pass.

All figures are bytes a token on one GPU for 16-bit activations (`memory` scales fp32 runs), counted tensor by tensor from
transformers' Llama code (modeling_llama.py) and litgpt's (model.py, lora.py) with torch's rules of what autograd saves.
"""

from __future__ import annotations

from ftdsl.estimate import constants
from ftdsl.estimate.setup import BYTES, Setup

OWN_ROPE = {"mistral", "mixtral"}
"""Families for which queries, keys and values before rotation stay beside the rotated ones (fms rows of Mistral-7B against
Llama-3-8B, which has the same sizes: 3 h a token less, and 2 (q + 2 kv) is 3 h)."""

SHARED = {"k": "q", "v": "q", "up": "gate"}
"""Linear maps that read the same tensor as another."""


def saved(setup: Setup) -> float:
    """What stays of a layer between its forward and its backward pass, the residual stream at its input left out."""
    return _norms(setup) + _attention(setup) + _mlp(setup) + lora_inputs(setup) + _frozen_inputs(setup)


def upcasts_norms(setup: Setup) -> bool:
    """RMSNorm written in torch operations works on an fp32 copy of its input; LayerNorm and fused kernels do not."""
    return setup.norms == "eager" and setup.architecture.norm == "rms" and not setup.compile


def wide_residual(setup: Setup) -> bool:
    """Whether the residual stream is fp32: fp32 weights under autocast (FSDP and DeepSpeed cast to 16 bit instead)."""
    return setup.base_dtype == "fp32" and setup.autocast and not setup.fsdp and not setup.zero


def _norms(setup: Setup) -> float:
    """What the norms keep: an fp32 copy of each input, else the residual stream between attention and MLP; and where
    weights are trained the normalised value, which Llama casts back and Gemma and litgpt do not, and the outputs that linear
    maps read (under autocast from fp32 each map casts its own)."""
    a = setup.architecture
    wide = wide_residual(setup)
    if upcasts_norms(setup):
        fp32 = wide or setup.traits.fp32_norms or a.family.startswith("gemma")
        inputs = (4 + (0 if setup.adapts else 4 if fp32 else 2)) * a.norms
    else:
        inputs = (4 if wide else 2) * (0 if a.parallel else a.norms - 1)
    readers = len(a.linears) - 2 if wide else 1 if a.parallel and a.norms == 1 else 2
    if setup.adapts:
        # frozen maps keep no input; compiled code keeps that of trained ones too, which a product reads in the backward pass
        # (torch, _functorch/partitioners.py: ban_recompute_materialized_backward)
        readers = 0
    masks = 2 if setup.traits.dropout_masks and a.norm == "layer" else 0
    return (inputs + 2 * readers + masks) * a.hidden / _sequence_split(setup) + _head_norms(setup)


def _head_norms(setup: Setup) -> float:
    """The norms of queries and keys (Qwen3): the same for their widths."""
    a = setup.architecture
    width = (4 if setup.adapts else 6) if upcasts_norms(setup) else 2
    return width * (a.q + a.kv) / setup.tensor if a.qk_norm else 0.0


def _sequence_split(setup: Setup) -> int:
    """Sequence parallelism, which Megatron and torchtitan use with tensor parallelism, splits norms and residuals too."""
    return setup.tensor if setup.traits.sequence_parallel else 1


def _attention(setup: Setup) -> float:
    """Queries, keys, values as attention reads them, its output, its log-sums; whole score matrices when eager."""
    a = setup.architecture
    widths: float = 2 * (a.q + 2 * a.kv) + 2 * a.q + 4 * a.heads
    if setup.traits.packed_qkv:
        # model.py: with grouped queries keys and values are expanded to all heads; without, `v` is a view that keeps the
        # whole qkv tensor beside the rotated queries and keys
        widths = 2 * (3 if a.kv < a.q else 5) * a.q + 2 * a.q + 4 * a.heads
    if a.family in OWN_ROPE and setup.traits.own_rotary:
        widths += 2 * (a.q + 2 * a.kv)
    if repeats_kv(setup):
        # transformers repeats keys and values for all heads where a mask is given, and did so always before 4.48
        widths += 4 * (a.q - a.kv)
    return (widths + _scores(setup)) / setup.tensor


def repeats_kv(setup: Setup) -> bool:
    """Whether grouped keys and values are expanded to all heads before attention."""
    how = setup.traits.repeats_kv
    return not setup.traits.packed_qkv and (how == "always" or (how == "sdpa" and setup.attention == "sdpa"))


def _scores(setup: Setup) -> float:
    """Score matrices of eager attention, bytes a token: softmax in fp32 and its 16-bit copy for each pair; Gemma 2 caps
    scores by a tanh before (2 more) and cannot use sdpa; Megatron keeps softmax, dropout's mask and its output in 16 bit
    (arXiv:2205.05198, 4: 5 a s). Keys and values are repeated for all heads."""
    a = setup.architecture
    capped = a.family == "gemma2" and setup.attention != "flash"
    if not capped and setup.attention != "eager":
        return 0.0
    pair = 5 if setup.traits.fused_softmax else 8 if a.family == "gemma2" else 6
    return pair * a.heads * setup.seq_len / setup.context + 4 * (a.q - a.kv)


def _mlp(setup: Setup) -> float:
    """Gate, up and silu(gate), or the input of the activation; what the last map reads where that is trained. Liger's kernel
    works silu(gate) out again, compiled code all that is elementwise and that no product reads. A token of a mixture meets
    `experts_used` MLPs."""
    a = setup.architecture
    inner = (4 if a.gated else 2) if setup.compile else (6 if a.gated else 2) - _again(setup)
    parts = inner + (0 if setup.adapts else 2)
    return parts * a.active_ffn / setup.tensor


def _again(setup: Setup) -> int:
    """Bytes of silu(gate) that Liger does not keep: its fused MLP comes with its fused loss and norms."""
    return 2 if setup.architecture.gated and setup.loss == "flce" and setup.norms == "fused" else 0


def _readers(setup: Setup, name: str) -> int:
    """How many of a kind of map a token meets."""
    return max(1, setup.architecture.experts_used) if name in ("gate", "up", "down") else 1


def lora_inputs(setup: Setup) -> float:
    """The input of each adapter, kept for the gradient of A. Adapters in fp32 upcast it, each for itself (peft,
    lora/layer.py: _cast_input_dtype); 16-bit ones share it, unless dropout makes a copy and a mask for each (one for the
    fused qkv of litgpt)."""
    a = setup.architecture
    if setup.method == "adapter_v2":
        # every map's output is scaled by a trained vector (litgpt, adapter_v2.py), which keeps it
        return sum(2.0 * outer * _readers(setup, name) for name, (_, outer) in a.linears.items()) / setup.tensor
    if setup.method not in ("lora", "oft"):
        return 0.0
    wide = setup.train_dtype == "fp32"
    # OFT turns the input for each map by itself, and keeps what it turned (peft, oft/layer.py)
    own_copy = wide or setup.lora_dropout or setup.method == "oft"
    # autocast casts the fp32 copy down again, and only that is kept; dropout's mask has a byte an element
    width = (4 if wide and not setup.autocast else 2) + (1 if setup.lora_dropout else 0)
    seen: set[str] = set()
    total = 0.0
    for name, (inner, _) in a.linears.items():
        if name not in setup.lora_targets:
            continue
        fused = setup.traits.packed_qkv and name in ("k", "v")
        source = SHARED.get(name, name) if fused or not own_copy else name
        # the attention's own output is kept by attention already, when nothing copies it
        if source in seen or (source == "o" and not own_copy):
            continue
        seen.add(source)
        total += width * inner * _readers(setup, name)
    if setup.traits.packed_qkv and 0 < len(qkv := {"q", "k", "v"} & set(setup.lora_targets)) < 3:
        # lora.py, zero_pad: the adapted part of qkv is scattered into place, and that keeps it
        total += 2 * sum(a.linears[name][1] for name in qkv)
    if setup.dora:
        # the magnitude's gradient keeps what the base gave and what the adapter did (peft, lora/dora.py: forward)
        total += sum(4 * a.linears[name][1] * _readers(setup, name) for name in a.linears if name in setup.lora_targets)
    return total / setup.tensor


def dora_bytes(setup: Setup) -> float:
    """What DoRA makes of the largest adapted map in each pass, whatever the tokens: the identity of its inputs, the adapter
    as a full matrix, the (unpacked) weight, their sum, in fp32 where the adapter is (peft, lora/dora.py: forward)."""
    if not setup.dora:
        return 0.0
    wide = BYTES[setup.train_dtype]
    sizes = [setup.architecture.linears[name] for name in setup.architecture.linears if name in setup.lora_targets]
    return max((wide * inner * inner + (4 + 2 * wide) * inner * outer for inner, outer in sizes), default=0.0)


def mask_bytes(setup: Setup) -> float:
    """Bytes of a 16-bit mask for each pair of tokens (llamafactory, data/collator.py: prepare_4d_attention_mask), which
    variable-length kernels do without."""
    return 2.0 * setup.micro_batch * setup.seq_len**2 if setup.mask and setup.attention != "flash" else 0.0


def _frozen_inputs(setup: Setup) -> float:
    """What bitsandbytes keeps of the inputs of frozen 4-bit maps: nothing since 0.42 (autograd/_functions.py: MatMul4Bit),
    the input of each before, which is what litgpt is pinned to."""
    if not setup.traits.keeps_quantised_inputs or not setup.quant.startswith("nf4"):
        return 0.0
    a = setup.architecture
    mlp = a.hidden * (0 if a.parallel and a.norms == 1 else 1) + a.ffn
    return constants.FITTED.bnb_input * (a.hidden + a.q + mlp)


def transient(setup: Setup) -> float:
    """What the backward pass of one layer needs beside what is kept, at its worst (in the MLP, whose last input is freed by
    then): gradients of the MLP's inner tensors and of the residual stream. From fms at batches of 8 to 32: full
    fine-tuning of Mistral-7B leaves 6 f + 4 h, LoRA 6 f + 6 h, QLoRA 6 f + 4 h."""
    a = setup.architecture
    inner = ((6 if setup.adapts else 4) if a.gated else (4 if setup.adapts else 2)) + _again(setup)
    # experts work one after another, each on its part of the tokens
    share = a.experts_used / a.experts if a.experts else 1.0
    width = max(a.expert_ffn * share, a.shared_ffn) if a.experts else a.ffn
    return (inner * width + 5 * a.hidden) / setup.tensor


def boundary(setup: Setup) -> float:
    """The residual stream at the input of a layer, which checkpointing keeps: fp32 where the stream is, and after kbit
    preparation (peft casts norms and embeddings, and the stream follows; not for GPTQ, and FSDP casts back)."""
    doubled = setup.kbit_prepare and setup.quant.startswith("nf4") and not setup.fsdp
    return (4 if doubled or wide_residual(setup) else 2) * setup.architecture.hidden / _sequence_split(setup)


def without_checkpointing(setup: Setup) -> float:
    """All that stays of a layer without checkpointing: norms that copy their input keep no 16-bit one."""
    return saved(setup) + (0.0 if upcasts_norms(setup) else boundary(setup))


def kept(setup: Setup) -> float:
    """What stays of a layer from forward to backward under its kind of checkpointing; a layer's average where only some are
    checkpointed."""
    whole, bound = without_checkpointing(setup), boundary(setup)
    if setup.offload_activations:
        bound = 0.0
    if setup.checkpointing in ("none", "full"):
        return whole if setup.checkpointing == "none" else bound
    if setup.selective == "selective_layer":
        return (bound + whole) / 2
    if setup.selective == "selective_core_attn":
        return whole - _scores(setup) / setup.tensor
    return bound + _saved_products(setup)


def _saved_products(setup: Setup) -> float:
    """Selective checkpointing by operation (torchtitan, activation_checkpoint.py): the attention's output and every second
    matrix product are kept."""
    a = setup.architecture
    outputs = sum(outer * _readers(setup, name) for name, (_, outer) in a.linears.items())
    return (2 * a.q + 4 * a.heads + outputs) / setup.tensor
