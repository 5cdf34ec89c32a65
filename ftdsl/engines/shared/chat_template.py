"""The chat template of a base model, for engines that know models by LLaMA-Factory's list of them."""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.language.values import Term
from ftdsl.plan.engine import UNKNOWN_FAMILY

_SCRATCH = {"qwen2": "qwen", "qwen3": "qwen3_nothink", "llama": "default"}


def template_of_base(base: Any, package: str, version: str = "") -> tuple[str, str]:
    """(name, reason): from the list of models of the package, else by the architecture. version: by default the newest."""
    if isinstance(base, Term):
        model = base.options.get("like") or base.options.get("id") or base.options.get("path")
        like = model.options.get("id") if isinstance(model, Term) else model
        if isinstance(like, str) and (name := catalog.template_for_model(package, like, version)):
            return name, f"the template of {like}"
        architecture = base.options.get("architecture")
        if architecture is not None:
            name = architecture.name if isinstance(architecture, Term) else str(architecture)
            return _SCRATCH.get(name, "default"), f"the template of {name} models"
    return "default", UNKNOWN_FAMILY
