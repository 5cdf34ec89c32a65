"""Rows to tokens: packing, and tokens added to the tokenizer."""

from __future__ import annotations

from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Term


def packing(context: StageContext) -> Params:
    value = context.get("packing")
    if value is None:
        return {}
    name = {True: "neat", False: "false"}.get(value) if isinstance(value, bool) else value.name
    if name == "false":
        return {"packing": False}
    return {"packing": True, "neat_packing": True} if name == "neat" else {"packing": True}


def special(context: StageContext) -> Params:
    value = context.get("tokenizer.special")
    if isinstance(value, Term):
        return {"new_special_tokens_config": context.paths.model(value)}
    return {"add_special_tokens": ",".join(value)} if value else {}


def token_init(context: StageContext) -> Params:
    value = context.get("tokenizer.init")
    if not isinstance(value, Term) or not context.is_explicit("tokenizer.init"):
        return {}
    if value.name == "noise":
        return {"init_special_tokens": "noise_init"}
    return {"init_special_tokens": "desc_init_w_noise" if value.options.get("noise") else "desc_init"}
