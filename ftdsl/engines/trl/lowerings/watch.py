"""Metrics, guards, and the losses of preference stages."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.shared.trainer import guard as trainer_guard


def metrics(context: StageContext) -> Params:
    for name in [plain(metric) for metric in context.get("evaluate.metrics") or ()]:
        if name != "loss":
            why = f"{context.engine.title} stages measure the loss; `{name}` is for an `eval` stage"
            context.refuse("evaluate.metrics", why, "write `metrics = [loss]`")
    return {}


def guard(context: StageContext) -> Params:
    """The filter that logs NaN as 0 is always off. Everything else is done by the runtime (`stage.json`)."""
    trainer_guard.check(context, reaches=True)
    return {"logging_nan_inf_filter": False}


def patience(context: StageContext) -> dict[str, Any]:
    """`data.patience`: evaluations without a better score until training stops (transformers' EarlyStoppingCallback)."""
    number = context.get("guard.patience")
    if not number:
        return {}
    if context.get("save.best_by") is None:
        why = "`patience` counts evaluations that are no better by `save.best_by`, which is not set"
        context.refuse("guard.patience", why, "write `save { best_by = eval_loss }`")
    return {"patience": number}


def preference_losses(context: StageContext) -> Params:
    """DPO's loss and a share of SFT on the chosen answer (RPO), as TRL's weighted sum of losses."""
    if context.stage.kind != "dpo":
        return {}
    weight = context.get("sft_weight")
    if not weight:
        return {}
    name = context.name("loss") or "sigmoid"
    return {"loss_type": [name, "sft"], "loss_weights": [1.0, float(weight)]}
