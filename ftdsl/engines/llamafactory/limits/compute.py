"""Precision, attention, kernels and recomputation: what needs a card, and what the engine drops without a word."""

from __future__ import annotations

from ftdsl.engines.llamafactory.work import Work


def no_effect_on_cpu(work: Work) -> None:
    """fp16: transformers' Trainer leaves autocast off on CPU. flash2: model/model_utils/attention.py warns and goes on."""
    if work.planned.world.gpu:
        return
    if work.name("precision") == "fp16":
        work.warn("precision", "`fp16` has no effect on CPU: it trains in fp32", "write `precision = bf16`, or `fp32`")
    if work.name("attention") == "flash2":
        help = "write `attention = sdpa`"
        work.warn("attention", "`flash2` has no effect on CPU: the model's own attention is used", help)


def needs_a_card(work: Work) -> None:
    """pure_bf16: hparams/parser.py. Kernels: their packages are CUDA's. Offload: checkpointing.py moves to "cuda"."""
    if work.planned.world.gpu:
        return
    precision = work.name("precision")
    if precision in ("pure_bf16", "fp8"):
        work.refuse("precision", f"`{precision}` needs a GPU", "write `precision = bf16`")
    for kernel in work.names("kernels"):
        if kernel != "none":
            work.refuse("kernels", f"`{kernel}` needs a GPU", "drop it")
    if work.get("memory.offload_activations"):
        why = "activations are in main memory already: this stage has no GPU"
        work.refuse("memory.offload_activations", why, "drop it")


def precision(work: Work) -> None:
    """llamafactory/hparams/parser.py. All-gather in 8 bits is torchao's, over FSDP2: train/fp8_utils.py."""
    if work.name("precision") == "pure_bf16" and work.planned.strategy == "zero3":
        why = "`pure_bf16` does not work with ZeRO-3, which keeps fp32 weights"
        work.refuse("precision", why, "write `precision = bf16`")
    if work.option("precision", "all_gather") and work.planned.strategy != "fsdp2":
        work.refuse("precision", "`all_gather` in 8 bits needs FSDP2", "write `parallel { strategy = fsdp2 }`")


def attention(work: Work) -> None:
    """llamafactory/model/model_utils/attention.py: fa3 raises, except for gpt_oss, where it is taken unasked."""
    name = work.name("attention")
    if name == "flash3":
        why = "LLaMA-Factory 0.9.5 has FlashAttention-3 for gpt-oss only, and takes it there by itself"
        work.refuse("attention", why, "write `attention = auto` for gpt-oss, else `flash2`")
    if name == "flex":
        work.refuse("attention", "LLaMA-Factory 0.9.5 has no flex attention", "write `attention = sdpa`")


def kernels(work: Work) -> None:
    """llamafactory/hparams/parser.py and model/adapter.py. `cce` is Axolotl's."""
    names = work.names("kernels")
    if "cce" in names:
        work.refuse("kernels", "LLaMA-Factory has no `cce`", "write `kernels = liger`, whose loss is fused too")
    for kernel, name in (("unsloth", "Unsloth"), ("ktransformers", "KTransformers")):
        if kernel in names and work.planned.strategy == "zero3":
            work.refuse("kernels", f"{name} does not work with ZeRO-3", "write `strategy = zero2`, or `ddp`")
        if kernel in names and work.planned.method == "oft":
            work.refuse("kernels", f"{name} cannot train OFT", "write `lora { }`")
    if "ktransformers" in names and work.planned.method not in ("lora", "oft"):
        work.refuse("kernels", "KTransformers trains LoRA only", "write `lora { }`")


def recomputation(work: Work) -> None:
    """model/model_utils/checkpointing.py: activations are offloaded by the checkpoint function, or not at all."""
    if work.get("memory.offload_activations") and work.name("memory.checkpointing") == "none":
        why = "only the activations that recomputation keeps can be offloaded"
        work.refuse("memory.offload_activations", why, "write `checkpointing = full`")
    if work.get("memory.offload_activations") and work.option("memory.checkpointing", "reentrant") is False:
        why = "offloading brings a checkpoint function of its own, and `reentrant` would be ignored"
        work.refuse("memory.checkpointing", why, "drop `reentrant`")


LIMITS = (no_effect_on_cpu, needs_a_card, precision, attention, kernels, recomputation)
