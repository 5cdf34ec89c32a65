"""What is trained: the method and which parts of the model it touches."""

from __future__ import annotations

from ftdsl.engines.llamafactory.work import Params, Work
from ftdsl.language.values import Term


def method(work: Work) -> Params:
    """`finetuning_type`, and whether a new adapter goes on top."""
    name = work.planned.method or "lora"
    if name in ("adapter", "prefix"):
        what = {"adapter": "bottleneck adapters", "prefix": "trainable prefixes"}[name]
        work.refuse(name, f"LLaMA-Factory has no {what}", "write `lora { }`, which it has in their place")
        return {}
    params: Params = {"finetuning_type": name}
    if work.stage.new_adapter:
        params["create_new_adapter"] = True
    return params


def layers(work: Work) -> Params:
    for block in ("freeze", "lora"):
        value = work.get(f"{block}.layers")
        if not isinstance(value, Term) or value.name == "all":
            continue
        count = int(value.options.get("n", 2))
        if value.name == "expanded":
            return {"freeze_trainable_layers": count, "use_llama_pro": True}
        return {"freeze_trainable_layers": -count if value.name == "first" else count}
    return {}


def oft_rank(work: Work) -> Params:
    rank = work.get("oft.rank")
    return {"oft_rank": rank, "oft_block_size": 0} if rank else {}


def oft_targets(work: Work) -> Params:
    """LoRA's too: llamafactory/model/adapter.py looks there for the modules of an OFT adapter, and not at OFT's own."""
    if not work.said("oft.targets"):
        return {}
    names = ",".join(map(str, work.get("oft.targets")))
    return {"oft_target": names, "lora_target": names}


def trainable(work: Work) -> Params:
    if not work.said("trainable"):
        return {}
    parts = {part.name if isinstance(part, Term) else part for part in work.get("trainable") or ()}
    names = {
        "freeze_vision_tower": "vision",
        "freeze_multi_modal_projector": "projector",
        "freeze_language_model": "language",
    }
    return {key: part not in parts for key, part in names.items()}


def upcast(work: Work) -> Params:
    """Norms and logits (llamafactory/model/model_utils/checkpointing.py); `softmax` needs no parameter: transformers has it
    in fp32 in every attention (eager says so, sdpa and flash kernels accumulate in it).
    """
    parts = [part.name if isinstance(part, Term) else part for part in work.get("upcast") or ()]
    if not work.said("upcast") and work.stage.settings.has("quantize"):
        parts = ["norms"]
    names = {"norms": "upcast_layernorm", "logits": "upcast_lmhead_output"}
    return {names[part]: True for part in parts if part in names}


def quantisation(work: Work) -> Params:
    """How the base is loaded (llamafactory/model/model_utils/quantization.py); the library follows from the format."""
    if not work.stage.settings.has("quantize"):
        return {}
    scheme, bits = work.name("quantize.scheme"), work.get("quantize.bits")
    if scheme in ("int8", "eetq") and not work.said("quantize.bits"):
        bits = 8
    method = scheme if scheme in ("hqq", "eetq") else "bnb"
    params: Params = {"quantization_bit": bits, "quantization_method": method}
    if method == "bnb" and bits == 4:
        params |= {
            "quantization_type": scheme or "nf4",
            "double_quantization": work.get("quantize.double") is not False,
        }
    return params
