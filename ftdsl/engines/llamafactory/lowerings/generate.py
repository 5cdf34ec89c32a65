"""Generation of answers."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.stage_context import Params, StageContext


def generation(context: StageContext) -> Params:
    """Sampling parameters, always written out; greedy in an evaluation unless the recipe sets a temperature."""
    greedy = 0 if context.stage.kind == "eval" else 1
    temperature = context.get("generate.temperature")
    temperature = greedy if temperature is None else temperature
    params: Params = {"do_sample": bool(temperature), "max_new_tokens": context.get("generate.max_new_tokens") or 1024}
    if temperature:
        params |= {
            "temperature": float(temperature),
            "top_p": _or(context.get("generate.top_p"), 1.0),
            "top_k": context.get("generate.top_k") or 0,
        }
    if beams := context.get("generate.beams"):
        params["num_beams"] = beams
    for key in ("repetition_penalty", "length_penalty"):
        if context.is_explicit(f"generate.{key}"):
            params[key] = context.get(f"generate.{key}")
    return params


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
