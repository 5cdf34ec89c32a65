"""Every constant that was fitted to measurements, with the rows it came from. What follows from code or papers stands
beside its use instead."""

BNB_SAVED_INPUT = 4
"""Bytes for each input element that litgpt's 4-bit maps keep. Fitted to QLoRA against LoRA of the same model and batch in
litgpt's config_hub (11 pairs: 3.8 to 4.2); bitsandbytes 0.41's MatMul4Bit accounts for 2 of them, and litgpt's older tables
show no more than those 2."""

CONTEXT = 2.0
"""GiB of a process that torch's allocator does not count: CUDA context, cuBLAS and NCCL workspaces. From the 236 fms rows that
publish both figures and the 81 of Qwen (which alone gives 2.0, fms alone 3.6 with its collectives)."""

FRAGMENTED_STATIC = 1.05
FRAGMENTED_DYNAMIC = 1.17
"""What the caching allocator holds for each byte of weights and states, and for each byte that comes and goes, at fixed lengths.
Least relative error over the same rows; each source alone gives 1.00 and 1.16 (fms), 1.14 and 1.08 (Qwen)."""

FRAGMENTED_VARIABLE = 2.0
"""The same for dynamic bytes where lengths change from batch to batch (fms-orca: 64 unpacked runs, 1.5 to 2.7)."""
