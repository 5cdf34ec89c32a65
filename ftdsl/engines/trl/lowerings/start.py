"""The model of a stage: base, adapters below, quantisation, resuming."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.shared.trainer.start import base_model, lineage_of
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Lineage


def model(context: StageContext) -> Params:
    """Base and adapters; the runtime merges the adapters below a new one, in order."""
    params, start = base_model(context), context.stage.start
    if start and start.adapters:
        params["adapter_name_or_path"] = [context.paths.adapter(adapter) for adapter in start.adapters]
    return params


def quantisation(context: StageContext) -> Params:
    """How the base is loaded (trl/trainer/model_config.py); bitsandbytes in every case."""
    if not context.stage.settings.has("quantize"):
        return {}
    scheme, bits = context.name("quantize.scheme"), context.get("quantize.bits")
    if scheme not in ("", "nf4", "fp4", "int8"):
        context.refuse(
            "quantize.scheme", f"{context.engine.title} loads a base by bitsandbytes", "write `scheme = nf4`"
        )
    if scheme == "int8" or bits == 8:
        return {"load_in_8bit": True}
    if bits != 4:
        context.refuse("quantize.bits", f"bitsandbytes has 4 and 8 bits, not {bits}", "write `bits = 4`")
    double = context.get("quantize.double") is not False
    return {"load_in_4bit": True, "bnb_4bit_quant_type": scheme or "nf4", "use_bnb_nested_quant": double}


def resume(context: StageContext) -> Params:
    """A checkpoint of the author's; the runtime resumes from the stage's own by itself."""
    value = context.get("resume")
    if isinstance(value, Term) and value.name == "file":
        return {"resume_from_checkpoint": context.paths.model(value)}
    return {}


def reference(context: StageContext) -> dict[str, Any]:
    """`data.reference`: the reference model of `dpo` and `kto`, where it is not the model in training without its new adapter."""
    if context.stage.kind not in ("dpo", "kto"):
        return {}
    value, lineage = context.get("reference"), context.stage.start
    if isinstance(value, StageRef):
        lineage = context.plan.stage(value.key).stage.result
    elif isinstance(value, Term):
        lineage = lineage_of(context, value)
    elif context.planned.method != "full" and not _continued(context):
        return {}
    return _described(context, lineage) if lineage is not None else {}


def _continued(context: StageContext) -> bool:
    """An adapter that is trained further cannot be switched off: the bare base would be the reference."""
    start = context.stage.start
    return bool(start and start.adapters and not context.stage.new_adapter)


def _described(context: StageContext, lineage: Lineage) -> dict[str, Any]:
    reference: dict[str, Any] = {"model": context.paths.model(lineage.base)}
    if lineage.adapters:
        reference["adapters"] = [context.paths.adapter(adapter) for adapter in lineage.adapters]
    return {"reference": reference}
