"""What is trained: the method and which parts of the model it touches."""

from __future__ import annotations

from ftdsl.engines.llamafactory.work import Params, Work
from ftdsl.language.values import Term


def method(work: Work) -> Params:
    """`finetuning_type`, and whether a new adapter goes on top."""
    name = work.planned.method or "lora"
    if name in ("adapter", "prefix"):
        work.refuse(name, f"LLaMA-Factory has no `{name}`", "use `lora { }`")
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
    parts = [part.name if isinstance(part, Term) else part for part in work.get("upcast") or ()]
    if not work.said("upcast") and work.stage.settings.has("quantize"):
        parts = ["norms"]
    names = {"norms": "upcast_layernorm", "logits": "upcast_lmhead_output"}
    return {names[part]: True for part in parts}
