"""What LLaMA-Factory has no parameter for, and ftdsl's runtime adds (runtime/extend.py): its spec, `extend.json`."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Document
from ftdsl.engines.shared.extending import additions, template_of
from ftdsl.engines.shared.stage_context import StageContext


def extension(context: StageContext, folder: str = "", *, training: bool) -> Document | None:
    """The spec of a stage; None if the engine needs no extension. Stages that do not train need only the template.

    folder: where the spec is written; by default the stage's folder.
    """
    spec: dict[str, Any] = {}
    if template := context.plan.recipe.templates.get(context.name("template")):
        spec["template"] = template_of(context, template)
    if training:
        spec |= {"weights": "float32"} if _frozen_in_half(context) else {}
        spec |= additions(context)
    return Document(f"{folder or context.folder}/extend.json", "json", spec) if spec else None


def _frozen_in_half(context: StageContext) -> bool:
    """Whether frozen weights would keep the type of the checkpoint although the recipe sets fp32.

    No parameter changes that: `infer_dtype` counts only for what does not train (llamafactory/model/patcher.py:322). Under
    ZeRO-3 they are loaded in fp32; quantised ones stay as they are.
    """
    planned = context.planned
    asked = context.is_explicit("precision") and planned.precision == "fp32"
    return (
        asked
        and planned.method != "full"
        and planned.strategy not in ("zero3", "megatron")
        and not context.get("quantize.bits")
    )
