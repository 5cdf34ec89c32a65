"""A base in few bits: which library takes which bits, and what a quantised base rules out."""

from __future__ import annotations

from ftdsl.engines.llamafactory.work import Work

TOKENS = ("tokenizer.add", "tokenizer.special", "tokenizer.resize")


def bits(work: Work) -> None:
    """llamafactory/model/model_utils/quantization.py, configure_quantization: the bits a scheme can have."""
    if not work.stage.settings.has("quantize"):
        return
    given, scheme = work.get("quantize.bits"), work.name("quantize.scheme")
    if scheme in ("nf4", "fp4") and given != 4:
        work.refuse("quantize.bits", f"`{scheme}` has 4 bits", "write `bits = 4`, or `scheme = int8` with `bits = 8`")
    elif scheme in ("int8", "eetq") and given != 8 and work.said("quantize.bits"):
        work.refuse("quantize.bits", f"`{scheme}` has 8 bits", "write `bits = 8`")
    elif not scheme and given not in (4, 8):
        work.refuse("quantize.bits", f"bitsandbytes quantises to 4 or 8 bits, not {given}", "write `bits = 4`")


def scheme(work: Work) -> None:
    """HQQ: transformers/quantizers/auto.py of 5.x has none ("not available yet"). EETQ: quantizer_eetq.py wants CUDA."""
    name = work.name("quantize.scheme")
    if name == "hqq":
        why = "transformers 5 cannot load a model in HQQ, and LLaMA-Factory 0.9.5 stands on it"
        work.refuse("quantize.scheme", why, "write `scheme = nf4`")
    if name == "eetq" and not work.planned.world.gpu:
        work.refuse("quantize.scheme", "EETQ needs a GPU", "write `scheme = int8`")


def sharded(work: Work) -> None:
    """Same file: only 4-bit bitsandbytes weights can be sharded (bnb_4bit_quant_storage)."""
    if not work.stage.settings.has("quantize") or work.planned.strategy not in ("zero3", "fsdp1", "fsdp2"):
        return
    if work.name("quantize.scheme") in ("eetq", "int8") or work.get("quantize.bits") != 4:
        why = f"only a 4-bit base can be sharded by {work.planned.strategy}"
        work.refuse("quantize", why, "write `bits = 4, scheme = nf4`, or `parallel { strategy = zero2 }`")


def adapters(work: Work) -> None:
    """llamafactory/hparams/parser.py, _verify_model_args; DoRA: model/adapter.py compares with "bnb", and transformers 5
    calls the same thing "bitsandbytes", so that every quantised base is refused.
    """
    if not work.stage.settings.has("quantize"):
        return
    if work.name("lora.init") == "pissa":
        work.refuse("lora.init", "PiSSA reads the weights of its base, which are quantised here", "write `init = zero`")
    if work.name("lora.variant") == "dora":
        why = "LLaMA-Factory 0.9.5 on transformers 5 refuses DoRA on a quantised base"
        work.refuse("lora.variant", why, "write `variant = plain`, or drop `quantize`")
    for key in TOKENS:
        if work.get(key):
            help = "add the tokens in a stage before, on a base that is not quantised"
            work.refuse(key, "the embeddings of a quantised base cannot be resized", help)


def with_fp8(work: Work) -> None:
    """llamafactory/hparams/parser.py, get_train_args."""
    if work.stage.settings.has("quantize") and work.name("precision") == "fp8":
        work.refuse("precision", "FP8 and a quantised base exclude each other", "write `precision = bf16`")


LIMITS = (bits, scheme, sharded, adapters, with_fp8)
