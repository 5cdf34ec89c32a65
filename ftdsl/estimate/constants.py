"""All constants fitted to measurements, in one record, with the rows they were fitted to. Constants from code, papers or data
sheets are defined where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftdsl.record import frozen, replace


@frozen(eq=True)
class SearchResult:
    """Memory figures by least relative error, time figures by least mean |log error|; cross-validation refits them."""

    context: float = 1.77
    """GiB that nvidia-smi shows of a process and torch's allocator does not count: CUDA context, cuBLAS workspaces, what was
    held before."""

    collectives: float = 0.84
    """GiB more where processes talk: NCCL's buffers."""

    reserved_static: float = 1.103
    """What the allocator holds for a byte of weights and states. This and the next two from the fms rows that publish what
    nvidia-smi showed, Qwen, peft-mm and fsdp-qlora, equal weight to each."""

    reserved_dynamic: float = 1.067
    """The same for a byte that comes and goes, at fixed lengths."""

    reserved_streams: float = 1.1
    """Times as much under FSDP, which gathers on a stream of its own (fsdp-qlora, fms)."""

    reserved_variable: float = 1.6
    """Times as much where lengths change from batch to batch (fms-orca: 64 unpacked runs, 1.5 to 2.7 in all)."""

    bnb_input: float = 3.9
    """Bytes that litgpt's 4-bit maps keep for each input element: QLoRA against LoRA of the same model and batch in litgpt's
    config_hub (11 pairs: 3.8 to 4.4). bitsandbytes 0.41's MatMul4Bit accounts for 2, and litgpt's tables of 2023 show 2."""

    litgpt_logit: float = 9.371
    """Bytes a logit of litgpt's chunked cross-entropy: 8.5 in its tables of 2023, 10.4 in its config_hub of 2024."""

    width: float = 284.8
    """Hidden size at which a matrix product reaches half of what large ones do (llm-foundry, MPT-125m to 70b)."""

    ridge: float = 0.7692
    """Times that a product's weights are waited for as they come from memory (1: once, with nothing going on beside; Qwen's
    lengths from 256 to 8192 at batch 1)."""

    waves: float = 0.5
    """Parts of a wave of tiles that a product loses at its end (0.5: half of the GPU idles in the last one)."""

    flash1: float = 0.55
    """FlashAttention 1 against 2, by which llm-foundry's long sequences ran (2k to 64k tokens)."""

    backward: float = 2.0
    """Memory traffic of an elementwise operation's backward pass against its forward pass (all throughput rows)."""

    launch: float = 1.424e-05
    """Seconds of CPU for one kernel started from Python (Qwen at 256 tokens, fms at two sequences)."""

    gptq: float = 20.8
    """Bytes moved for each weight that AutoGPTQ's torch code unpacks, each time (Qwen, QLoRA over GPTQ, 1.8B to 72B)."""

    nf4: float = 6.783
    """The same for bitsandbytes' 4-bit kernels (fms QLoRA, adapters in kernels of their own or not)."""

    gptq_triton: float = 8.0
    """The same for GPTQ's Triton kernels (fms QLoRA over GPTQ)."""

    link: float = 0.4535
    """The part of a data sheet's link that collectives of a layer's size reach (fms on two and four GPUs, llm-foundry)."""

    network: float = 0.5
    """The same for the network between machines (llm-foundry on 16 to 512 GPUs)."""

    overlap: float = 0.7
    """The part of computing behind which collectives hide (the same rows)."""

    zero3: float = 0.0078
    """Seconds of CPU for a layer's hooks of DeepSpeed ZeRO-3, forward and backward (Qwen full and 72B)."""

    fsdp_unit: float = 0.0006
    """Seconds of CPU for one unit of FSDP in one pass. peft wraps the two maps of every adapter as units of their own
    (utils/other.py: fsdp_auto_wrap_policy), which is what slows small batches (fms, LoRA and QLoRA on two and four GPUs)."""

    loss_traffic: float = 1.2
    """Times that each byte the loss holds crosses the memory's bus (fms, logits against fused)."""

    step: float = 0.015
    """Seconds of a step that no term explains: data, logging, synchronising (fms, Qwen)."""


PRIORS = {
    "context": (1.1, 0.5),
    "collectives": (0.8, 0.5),
    "reserved_static": (1.05, 0.05),
    "reserved_dynamic": (1.12, 0.1),
    "reserved_streams": (1.1, 0.1),
    "reserved_variable": (1.5, 0.2),
    "bnb_input": (3.0, 1.0),
    "litgpt_logit": (8.5, 0.3),
    "width": (200.0, 0.5),
    "ridge": (1.0, 0.5),
    "waves": (0.5, 0.4),
    "flash1": (0.55, 0.2),
    "backward": (2.0, 0.2),
    "launch": (12e-6, 0.3),
    "gptq": (16.0, 0.4),
    "nf4": (6.0, 0.4),
    "gptq_triton": (8.0, 0.4),
    "link": (0.5, 0.3),
    "network": (0.5, 0.3),
    "overlap": (0.7, 0.2),
    "zero3": (0.006, 0.4),
    "fsdp_unit": (0.6e-3, 0.4),
    "loss_traffic": (1.2, 0.3),
    "step": (0.015, 0.5),
}
"""What physics or the code lets one expect of each constant before any row, and how far off that may be, as a factor: what a fit
pays for moving it. Context: 0.4 to 1.5 GiB of CUDA and cuBLAS; collectives: NCCL's channels; 4-bit maps keep a 16-bit input; a
chunked cross-entropy makes 8 bytes a logit; a backward pass reads what forward read and wrote, and writes; links reach half of
their rate with messages of a layer's size; Python starts a kernel in 8 to 20 us."""

FITTED = SearchResult()


@contextmanager
def refitted(**values: Any) -> Iterator[None]:
    """Other values while the block runs: for cross-validation."""
    global FITTED
    before = FITTED
    FITTED = replace(before, **values)
    try:
        yield
    finally:
        FITTED = before
