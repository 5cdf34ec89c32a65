"""Seconds of one layer on one card: matrix products, attention, elementwise work, unpacking of weights, kernel launches."""

from __future__ import annotations

import math

from ftdsl.estimate import constants, layer, trained
from ftdsl.estimate.setup import Setup

REACHED_BANDWIDTH = 0.85
"""The part of a memory's data-sheet bandwidth that streaming kernels reach (BabelStream on A100 and H100: 0.85 to 0.93)."""

ATTENTION = {
    "flash2": {8: 0.5, 9: 0.38},
    "cudnn": {8: 0.5, 9: 0.55},
}
"""Causal attention, forward and backward together, of `half` by kernels and generation of GPUs. FlashAttention 2:
arXiv:2307.08691, figures 5 and 6 (A100 160 TFLOP/s backward to 190 forward; H100 370 at most). cuDNN on Hopper: arXiv:2407.08608,
figures 5 and 6 (600 forward, 500 backward). Other generations: as the nearest before."""

RECOMPUTED = {"none": 0.0, "full": 1.0, "selective_op": 0.5, "selective_layer": 0.5, "selective_core_attn": 0.0}
"""The part of the forward pass that checkpointing runs again; core attention alone needs no matrix product of the layer."""

ATTENTION_AGAIN = {"full": 1.0, "selective_layer": 0.5, "selective_core_attn": 1.0}
"""The part of attention that checkpointing runs again; by operation its output is kept."""

COMPILED_KERNELS = 0.5
"""What torch.compile leaves of launches: chains of two to three operations become one kernel."""

TILES = 128 * 128 * 256
"""Elements of the outputs that a GPU works on at once: some 128 multiprocessors, each with a tile of 128 by 256."""

CACHED = 0.25
"""Time of a byte from the last cache against one from memory (microbenchmarks of A100, H100 and Ada: 2.5 to 5 times as fast)."""

GROUPED = 32
"""Experts beyond which their products are started together: mixtures of many small ones come with grouped kernels."""

AUTOCAST = 1.2
"""Autocast looks at the dtype of each operation's inputs, and casts some: what that adds to its start."""

NEWER_HOSTS = 0.6
"""Time of a kernel's start on hosts of GPUs since 2022 against those of an A100: single threads of Zen 4 and Sapphire Rapids
against Zen 2 and Ice Lake (SPECspeed: 1.4 to 1.8)."""


def passes(setup: Setup) -> float:
    """Matrix products a weight, in forward passes: forward, again, by input, and by weight where it is trained."""
    return 1 + _crossed(setup) * (1 + RECOMPUTED.get(setup.selective, 0.0)) + _whole(setup)


def _crossed(setup: Setup) -> float:
    """The part of the layers that the backward pass goes through."""
    return trained.crossed(setup) / setup.architecture.layers


def _whole(setup: Setup) -> float:
    """The part of the layers whose own weights are trained."""
    if setup.method == "freeze":
        return min(1.0, setup.trained_layers / setup.architecture.layers)
    return 0.0 if setup.adapts else 1.0


def peak(setup: Setup) -> float:
    """FLOP/s of the GPU for large products in the dtype that is computed in."""
    gpu = setup.gpu
    # clocks fall with about the cube root of power, and work done with clocks
    held = min(1.0, setup.power / gpu.power) ** POWER if setup.power else 1.0
    if setup.quant == "fp8_compute" and gpu.fp8_rate:
        return gpu.fp8_rate * 1e12 * gpu.reach * FP8_PART * held
    if setup.compute_bytes == 4:
        return gpu.fp32 * 1e12 * 0.9 * held
    return gpu.half * 1e12 * gpu.reach * held


POWER = 0.5
"""Work done against power at full load: between the third of pure frequency scaling and one of leakage (no row of ours)."""


FP8_PART = 0.88
"""How much of their peak products in fp8 reach against those in 16 bit: 1402.6 of 1979 TFLOP/s on an H100 against 794.5 of 989
(stas00/ml-engineering). Casts are counted as traffic."""


def _reached(setup: Setup, tokens: float, outputs: float) -> float:
    """FLOP/s for products of this model's width, so many rows and outputs: narrow ones lose time at their ends, few rows leave
    the weights' way from memory in sight, few tiles leave multiprocessors idle."""
    searched = constants.FITTED
    narrow = searched.width * math.sqrt(setup.tensor) / setup.architecture.hidden
    rows = max(1.0, tokens)
    ridge = peak(setup) / _bandwidth(setup)
    last_wave = TILES * setup.tensor / (rows * outputs)
    return peak(setup) / (1 + narrow + searched.ridge * ridge / rows + searched.waves * last_wave)


def _outputs(setup: Setup) -> float:
    """Outputs of a layer's maps on average, each as wide as the work on it."""
    maps = setup.architecture.linears.values()
    return sum(inner * outer * outer for inner, outer in maps) / sum(inner * outer for inner, outer in maps)


def matmul(setup: Setup) -> float:
    """Seconds of a layer's linear maps. A mixture's experts each see their part of the tokens."""
    a = setup.architecture
    rows = setup.tokens * (a.experts_used / a.experts if a.experts else 1.0)
    return (
        2 * a.active_layer_linear * setup.tokens * passes(setup) / setup.tensor / _reached(setup, rows, _outputs(setup))
    )


def head(setup: Setup) -> float:
    """Seconds of the head, which no checkpointing runs again."""
    trained = not setup.adapts or setup.trains_embeddings
    work = 2 * setup.architecture.embedding * setup.tokens * (3 if trained else 2) / setup.tensor
    return work / _reached(setup, setup.tokens, setup.architecture.vocab)


def attention(setup: Setup) -> float:
    """Seconds of scores and their products, causal: half of all pairs; backward 2.5 times forward. FlashAttention's kernels for
    variable lengths work the pairs of each packed row alone (flash_attn_varlen_func). Eager attention works all
    pairs and moves them through memory."""
    a = setup.architecture
    again = ATTENTION_AGAIN.get(setup.selective, 0.0)
    times = 1 + _crossed(setup) * (again + 2.5)
    reach = min(setup.seq_len, setup.document_len or setup.seq_len) if setup.attention == "flash" else setup.seq_len
    work = 2.0 * a.span(reach) * a.q * setup.tokens / setup.tensor
    if setup.attention == "eager":
        moved = 24.0 * a.heads * setup.seq_len * setup.tokens / setup.tensor
        return 2 * work * times / peak(setup) + moved * times / _bandwidth(setup)
    return work * times / _attention_rate(setup)


def _attention_rate(setup: Setup) -> float:
    """FLOP/s of fused attention."""
    kernels, gpu = setup.traits.kernels, setup.gpu
    rates = ATTENTION["cudnn" if kernels == "cudnn" else "flash2"]
    generation = max((known for known in rates if known <= gpu.capability), default=8)
    # a GPU whose products exceed or miss its data sheet does so here too
    part = rates[generation] * min(1.0, gpu.reach / USUAL_REACH[generation])
    return part * gpu.half * 1e12 * (constants.FITTED.flash1 if kernels == "flash1" else 1.0)


USUAL_REACH = {8: 0.82, 9: 0.62}
"""The reach of the GPUs that the rates of attention were measured on."""


def _bandwidth(setup: Setup) -> float:
    return setup.bandwidth * REACHED_BANDWIDTH


def stream(setup: Setup, moved: float) -> float:
    """Seconds to move bytes through the GPU's memory."""
    return moved / _bandwidth(setup)


def elementwise(setup: Setup) -> float:
    """Seconds of norms, rotations, activations, residuals and adapters."""
    again = RECOMPUTED.get(setup.selective, 0.0)
    moved = traffic(setup) * setup.tokens * (1 + _crossed(setup) * (again + constants.FITTED.backward))
    return stream(setup, moved) * _from_memory(setup)


def _from_memory(setup: Setup) -> float:
    """Time against that of a stream from memory: of what one operation writes, the next one reads what the cache still has."""
    written = 2.0 * setup.compute_bytes * setup.tokens * setup.architecture.hidden / setup.tensor
    cached = min(1.0, 0.5 * setup.gpu.cache * 1e6 / max(1.0, written))
    return CACHED * cached + 1 - cached


def _fused(setup: Setup) -> bool:
    """Whether norms, rotation and activation are kernels of their own: by libraries, or compiled."""
    return setup.norms == "fused" or setup.compile


def traffic(setup: Setup) -> float:
    """Bytes a token that a layer's forward pass reads and writes outside matrix products, counted kernel by kernel."""
    a = setup.architecture
    wide = setup.kbit_prepare and setup.quant.startswith("nf4") and not setup.fsdp
    residual = 2 * (12 if wide else 6) * a.hidden
    gates = ((6 if _fused(setup) else 10) if a.gated else 4) * a.active_ffn
    scatter = 12 * a.hidden * a.experts_used
    casts = sum(6 * (inner + outer) for inner, outer in a.linears.values()) if wide else 0
    attention = 4 * (a.q + 2 * a.kv) + 4 * a.q
    if setup.quant == "fp8_compute":
        # each map's input is read in 16 bit, and written in 8 twice, once transposed for the gradient of the weight
        casts += sum(4 * inner for inner, _ in a.linears.values())
    return (
        _norm_traffic(setup, wide) + residual + attention + gates + scatter + casts + _lora_traffic(setup)
    ) / setup.tensor


def _norm_traffic(setup: Setup, wide: bool) -> float:
    """RMSNorm in torch operations is seven kernels, some in fp32 (34 bytes an element); one kernel reads and writes once.
    Rotating queries and keys is five kernels, or one."""
    a = setup.architecture
    eager = not _fused(setup) and a.norm == "rms"
    norm = (40 if wide else 34) if eager else (8 if wide else 4)
    rotation = 0 if a.norm == "layer-no-bias" else (20 if eager else 6)
    return norm * a.norms * a.hidden + rotation * (a.q + a.kv)


def _lora_traffic(setup: Setup) -> float:
    """Adapters: casts, both thin products (they only read and write), scaling, adding."""
    if setup.method == "oft":
        # turned in fp32 and cast back (peft, oft/layer.py)
        return sum(
            20.0 * inner for name, (inner, _) in setup.architecture.linears.items() if name in setup.lora_targets
        )
    if setup.method != "lora":
        return 0.0
    wide = setup.wide_adapters
    per_in, per_out = (
        (2, 6)
        if setup.fused_adapters or setup.compile
        else (14, 12)
        if wide and setup.autocast
        else (10, 24)
        if wide
        else (2, 12)
    )
    if setup.lora_dropout:
        per_in += 5
    used = {name: sizes for name, sizes in setup.architecture.linears.items() if name in setup.lora_targets}
    return sum(per_in * inner + per_out * outer for inner, outer in used.values())


def unpacking(setup: Setup) -> float:
    """Seconds to unpack a layer's quantised weights, once a pass."""
    searched = constants.FITTED
    slow = setup.quant.startswith("gptq") and setup.kbit_prepare
    fast = searched.gptq_triton if setup.quant.startswith("gptq") else searched.nf4
    per = 0.0 if setup.quant in ("none", "fp8_compute") else searched.gptq if slow else fast
    times = 2 + RECOMPUTED.get(setup.selective, 0.0)
    return stream(setup, setup.architecture.layer_linear * per * times + _dora_traffic(setup) * (times - 1))


def _dora_traffic(setup: Setup) -> float:
    """Bytes that a layer's magnitudes move in a forward pass: adapter, weight and their sum as full matrices, and the norm."""
    maps = setup.architecture.linears
    return (
        sum(24.0 * maps[name][0] * maps[name][1] for name in maps if name in setup.lora_targets) if setup.dora else 0.0
    )


def launching(setup: Setup) -> float:
    """Seconds of CPU to start a layer's kernels from Python, forward, again and backward."""
    again = RECOMPUTED.get(setup.selective, 0.0)
    count = _kernels(setup) * (1 + _crossed(setup) * (1.5 + again)) * (COMPILED_KERNELS if setup.compile else 1.0)
    count *= AUTOCAST if setup.autocast and not setup.compile else 1.0
    return (count * constants.FITTED.launch * setup.traits.host + _hooks(setup) * (2 + again)) * host_speed(setup)


def host_speed(setup: Setup) -> float:
    """Time of the CPU's work against that of hosts of an A100."""
    return NEWER_HOSTS if setup.gpu.capability >= 8.9 else 1.0


def _hooks(setup: Setup) -> float:
    """Seconds of CPU for a layer's hooks of sharding in one pass."""
    searched = constants.FITTED
    if setup.strategy == "zero3":
        return searched.zero3 / 3
    if not setup.fsdp or setup.data == 1:
        return 0.0
    alone = 2 * len(setup.lora_targets) if setup.method == "lora" and setup.traits.fsdp_wraps_adapters else 0
    return searched.fsdp_unit * (1 + alone)


def _kernels(setup: Setup) -> float:
    """Kernels of a layer's forward pass."""
    a = setup.architecture
    eager = layer.upcasts_norms(setup)
    count = a.norms * (7 if eager else 1) + (12 if eager else 2) + 16
    # experts are started one by one, and since transformers 5 in groups
    count += 7 * min(a.experts, GROUPED) if a.experts else 5
    if setup.method == "lora":
        each = 3 if setup.fused_adapters else 7 if setup.wide_adapters or setup.lora_dropout else 5
        count += len(setup.lora_targets) * each
    if setup.quant != "none":
        count += 7 * (6 if setup.quant.startswith("gptq") and setup.kbit_prepare else 2)
    return count
