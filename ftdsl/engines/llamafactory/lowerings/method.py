"""The method, and which parts of the model it trains."""

from __future__ import annotations

from ftdsl.engines.llamafactory.unsupported import UNSUPPORTED
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Term


def method(context: StageContext) -> Params:
    """`finetuning_type`, and whether a new adapter goes on top."""
    name = context.planned.method or "lora"
    if name in UNSUPPORTED:
        return {}  # an error already
    params: Params = {"finetuning_type": name}
    if context.stage.new_adapter:
        params["create_new_adapter"] = True
    return params


def layers(context: StageContext) -> Params:
    for block in ("freeze", "lora"):
        value = context.get(f"{block}.layers")
        if not isinstance(value, Term) or value.name == "all":
            continue
        count = int(value.options.get("n", 2))
        if value.name == "expanded":
            return {"freeze_trainable_layers": count, "use_llama_pro": True}
        return {"freeze_trainable_layers": -count if value.name == "first" else count}
    return {}


def oft_rank(context: StageContext) -> Params:
    rank = context.get("oft.rank")
    return {"oft_rank": rank, "oft_block_size": 0} if rank else {}


def oft_targets(context: StageContext) -> Params:
    """`lora_target` too: llamafactory/model/adapter.py reads the modules of an OFT adapter from it, not from `oft_target`."""
    if not context.is_explicit("oft.targets"):
        return {}
    names = ",".join(map(str, context.get("oft.targets")))
    return {"oft_target": names, "lora_target": names}


def trainable(context: StageContext) -> Params:
    if not context.is_explicit("trainable"):
        return {}
    parts = {part.name if isinstance(part, Term) else part for part in context.get("trainable") or ()}
    names = {
        "freeze_vision_tower": "vision",
        "freeze_multi_modal_projector": "projector",
        "freeze_language_model": "language",
    }
    return {key: part not in parts for key, part in names.items()}


def upcast(context: StageContext) -> Params:
    """Norms and logits (llamafactory/model/model_utils/checkpointing.py). `softmax` needs no parameter: every attention of
    transformers computes it in fp32 (eager explicitly, sdpa and flash kernels by their accumulators).
    """
    parts = [part.name if isinstance(part, Term) else part for part in context.get("upcast") or ()]
    if not context.is_explicit("upcast") and context.stage.settings.has("quantize"):
        parts = ["norms"]
    names = {"norms": "upcast_layernorm", "logits": "upcast_lmhead_output"}
    return {names[part]: True for part in parts if part in names}


def quantisation(context: StageContext) -> Params:
    """How the base is loaded (llamafactory/model/model_utils/quantization.py); the scheme decides the library."""
    if not context.stage.settings.has("quantize"):
        return {}
    scheme, bits = context.name("quantize.scheme"), context.get("quantize.bits")
    if scheme in ("int8", "eetq") and not context.is_explicit("quantize.bits"):
        bits = 8
    method = scheme if scheme in ("hqq", "eetq") else "bnb"
    params: Params = {"quantization_bit": bits, "quantization_method": method}
    if method == "bnb" and bits == 4:
        params |= {
            "quantization_type": scheme or "nf4",
            "double_quantization": context.get("quantize.double") is not False,
        }
    return params
