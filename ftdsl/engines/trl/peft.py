"""The document's `peft` block: fields of one of PEFT's configuration classes."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Term


def peft(context: StageContext) -> Params:
    """The new adapter of a stage; {} where all weights or an existing adapter are trained."""
    start = context.stage.start
    if context.planned.method == "full" or (start and start.adapters and not context.stage.new_adapter):
        return {}
    return _lora(context)


def _lora(context: StageContext) -> Params:
    get = context.get
    rank = get("lora.rank") or 8
    params: Params = {"peft_type": "LORA", "r": rank, "lora_alpha": plain(get("lora.alpha") or 2 * rank),
                      "lora_dropout": plain(get("lora.dropout") or 0.0), "target_modules": targets(context)}  # fmt: skip
    if saved := get("lora.modules_to_save"):
        params["modules_to_save"] = [plain(name) for name in saved]
    if get("lora.rslora"):
        params["use_rslora"] = True
    if context.name("lora.variant") == "dora":
        params["use_dora"] = True
    value = get("lora.init")
    if isinstance(value, Term) and value.name == "pissa":
        steps = value.options.get("iterations")
        params["init_lora_weights"] = f"pissa_niter_{steps}" if isinstance(steps, int) else "pissa"
    return params


def targets(context: StageContext, block: str = "lora") -> Any:
    """Names of modules; PEFT's `all-linear` for all."""
    names = [plain(name) for name in context.get(f"{block}.targets") or ["all"]]
    return "all-linear" if "all" in names else names
