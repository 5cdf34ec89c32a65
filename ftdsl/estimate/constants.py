"""Every constant that was fitted to measurements, in one record, with the rows it came from. What follows from code, papers or
data sheets stands beside its use instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftdsl.record import frozen, replace


@frozen(eq=True)
class Fitted:
    """Memory figures by least relative error, time figures by least mean |log error|; cross-validation refits them."""

    context: float = 2.05
    """GiB that nvidia-smi shows of a process and torch's allocator does not count: CUDA context, cuBLAS workspaces, what was
    held before. With the next three from the 236 fms rows that publish both figures and the 81 of Qwen, equal weight to each
    (fms alone: 3.2, 0.7, 1.01, 1.15; Qwen alone: 1.95, nothing, 1.14, 1.08)."""

    collectives: float = 1.5
    """GiB more where processes talk: NCCL's buffers."""

    fragmented_static: float = 1.10
    """What nvidia-smi shows for a byte of weights and states."""

    fragmented_dynamic: float = 1.14
    """The same for a byte that comes and goes, at fixed lengths."""

    reserved_static: float = 1.02
    reserved_dynamic: float = 1.10
    """What the allocator itself says it holds at most, for each byte that stays and that comes and goes: less than its process
    shows later, since blocks are given back and taken again (peft-bench, 4 rows; fms with Liger on one card, less its
    context, 22 rows: 1.07 to 1.12)."""

    fragmented_variable: float = 2.0
    """The same where lengths change from batch to batch (fms-orca: 64 unpacked runs, 1.5 to 2.7)."""

    bnb_input: float = 4.0
    """Bytes that litgpt's 4-bit maps keep for each input element: QLoRA against LoRA of the same model and batch in litgpt's
    config_hub (11 pairs: 3.8 to 4.4). bitsandbytes 0.41's MatMul4Bit accounts for 2, and litgpt's tables of 2023 show 2."""

    litgpt_logit: float = 9.3
    """Bytes a logit of litgpt's chunked cross-entropy: 8.5 in its tables of 2023, 10.4 in its config_hub of 2024."""

    width: float = 200.0
    """Hidden size at which a matrix product reaches half of what large ones do (llm-foundry, MPT-125m to 70b)."""

    rows: float = 515.0
    """Tokens at which it does (Qwen's lengths from 256 to 8192 at batch 1)."""

    flash1: float = 0.61
    """FlashAttention 1 against 2, by which llm-foundry's long sequences ran (2k to 64k tokens)."""

    backward: float = 2.4
    """Memory traffic of an elementwise operation's backward pass against its forward pass (all throughput rows)."""

    launch: float = 16e-6
    """Seconds of CPU for one kernel started from Python (Qwen at 256 tokens, fms at two sequences)."""

    gptq: float = 16.2
    """Bytes moved for each weight that AutoGPTQ's torch code unpacks, each time (Qwen, QLoRA over GPTQ, 1.8B to 72B)."""

    nf4: float = 8.3
    """The same for bitsandbytes' 4-bit kernels (fms QLoRA, adapters in kernels of their own or not)."""

    gptq_triton: float = 10.5
    """The same for GPTQ's Triton kernels (fms QLoRA over GPTQ)."""

    link: float = 0.46
    """The part of a data sheet's link that collectives of a layer's size reach (fms on two and four cards, llm-foundry)."""

    network: float = 0.47
    """The same for the network between machines (llm-foundry on 16 to 512 cards)."""

    overlap: float = 0.61
    """The part of computing behind which collectives hide (the same rows)."""

    zero3: float = 0.008
    """Seconds of CPU for a layer's hooks of DeepSpeed ZeRO-3, forward and backward (Qwen full and 72B)."""

    fsdp_unit: float = 0.45e-3
    """Seconds of CPU for one unit of FSDP in one pass. peft wraps the two maps of every adapter as units of their own
    (utils/other.py: fsdp_auto_wrap_policy), which is what slows small batches (fms, LoRA and QLoRA on two and four cards)."""

    loss_traffic: float = 1.1
    """Times that each byte the loss holds crosses the memory's bus (fms, logits against fused)."""

    step: float = 0.07
    """Seconds of a step that no term explains: data, logging, synchronising (fms, Qwen)."""


FITTED = Fitted()


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
