"""How answers are generated."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.llamafactory.work import Params, Work


def generation(work: Work) -> Params:
    """How answers are made; greedy unless the recipe says otherwise, and always written out."""
    greedy = 0 if work.stage.kind == "eval" else 1
    temperature = work.get("generate.temperature")
    temperature = greedy if temperature is None else temperature
    params: Params = {"do_sample": bool(temperature), "max_new_tokens": work.get("generate.max_new_tokens") or 1024}
    if temperature:
        params |= {
            "temperature": float(temperature),
            "top_p": _or(work.get("generate.top_p"), 1.0),
            "top_k": work.get("generate.top_k") or 0,
        }
    if beams := work.get("generate.beams"):
        params["num_beams"] = beams
    for key in ("repetition_penalty", "length_penalty"):
        if work.said(f"generate.{key}"):
            params[key] = work.get(f"generate.{key}")
    return params


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
