"""What every stage that writes a model says of it: where it goes, the size of its files, its upload and its card."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared import assemble
from ftdsl.engines.shared.card import card_of
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Term
from ftdsl.recipe.recipe import ModelRef

SHARD = 5e9
"""Bytes of a file of weights, unless `shards` says otherwise."""
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def hub_options(model: ModelRef | None) -> dict[str, Any]:
    """How a model of the Hub is read."""
    options = model.options if isinstance(model, Term) else {}
    return {name: options[name] for name in ("revision", "trust_remote_code") if options.get(name)}


def shards_and_push(context: StageContext) -> dict[str, Any]:
    """The size of its files in bytes, its dtype where a merge sets one, and the Hub's model it is uploaded as."""
    spec: dict[str, Any] = {
        "shard_bytes": int(getattr(context.get("shards"), "number", context.get("shards") or SHARD))
    }
    if context.stage.kind == "merge" and (dtype := DTYPES.get(context.name("dtype"))):
        spec["dtype"] = dtype
    if isinstance(push := context.get("push"), Term):
        spec["push"] = {key: value for key, value in push.options.items() if key in ("id", "private", "revision")}
    return spec


def merged(context: StageContext, made: str, relation: str) -> dict[str, Any]:
    """What a merge writes. made: a sentence for the card; relation: to its base, as the Hub has it."""
    spec: dict[str, Any] = {"to": assemble.result_of(context), "seed": context.plan.recipe.seed}
    spec |= shards_and_push(context)
    spec["card"] = card_of(context, made[:1].upper() + made[1:], relation)
    return spec | ({"smoke": True} if context.plan.recipe.smoke else {})
