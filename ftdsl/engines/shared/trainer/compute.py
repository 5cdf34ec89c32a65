"""Device and compilation: parameters of transformers' Trainer."""

from __future__ import annotations

from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Term


def use_cpu(context: StageContext) -> Params:
    """Always written on CPU: without it newer versions of accelerate run two separate jobs of one process each."""
    return {} if context.planned.world.gpu else {"use_cpu": True}


def compile(context: StageContext) -> Params:
    value = context.get("compile")
    if value in (None, False):
        return {}
    options = value.options if isinstance(value, Term) else {}
    extra = {f"torch_compile_{key}": text for key, text in options.items()}
    return {"torch_compile": True, **extra}
