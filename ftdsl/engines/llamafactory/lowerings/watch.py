"""Metrics during training, and guards."""

from __future__ import annotations

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.shared.trainer import guard as trainer_guard


def metrics(context: StageContext) -> Params:
    names = {plain(metric) for metric in context.get("evaluate.metrics") or ()}
    if names & {"rouge", "bleu"} and context.planned.strategy == "zero3":
        context.refuse("evaluate.metrics", "rouge and bleu generate answers, which does not work with `zero3`")
    return (
        {"compute_accuracy": True}
        if "accuracy" in names
        else {"predict_with_generate": True}
        if names - {"loss"}
        else {}
    )


def guard(context: StageContext) -> Params:
    """The engine's filter, which logs NaN as 0, is always off. Everything else is done by the runtime (`stage.json`)."""
    reaches, why = reached(context)
    trainer_guard.check(context, reaches=reaches, why=why)
    params: Params = {"logging_nan_inf_filter": False}
    if context.get("guard.patience"):
        params["early_stopping_steps"] = context.get("guard.patience")
    return params


def reached(context: StageContext) -> tuple[bool, str]:
    """Whether the runtime replaces the engine's trainer, and why not (runtime/replace_trainers.py)."""
    if context.stage.kind == "ppo":
        return False, "PPO's trainer has its own loop"
    if context.planned.strategy == "megatron":
        return False, "Megatron has its own trainer"
    if trainer_guard.launched_elsewhere(context):
        return False, "Ray starts the engine's own trainer in its workers"
    return True, ""
