"""Metrics during training, and guards."""

from __future__ import annotations

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext


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
    """The engine's filter, which logs NaN as 0, is always off."""
    _refuse_guards(context)
    params: Params = {"logging_nan_inf_filter": False}
    if context.get("guard.patience"):
        params["early_stopping_steps"] = context.get("guard.patience")
    return params


_CLIP = "write `optim { clip = 1.0 }`, which scales large gradients down"
_UNWATCHED = {
    "spike": ("spikes of the loss are not detected yet", "drop it, or write `nan = stop`"),
    "grad_norm": ("gradient norms are not watched yet", _CLIP),
}


def _refuse_guards(context: StageContext) -> None:
    """One message per cause: options of a rollback are not reported in addition to the rollback itself."""
    rolled = False
    for key in ("nan", "spike", "grad_norm"):
        action = context.name(f"guard.{key}")
        if not context.is_explicit(f"guard.{key}") or action == "ignore":
            continue
        if action == "rollback":
            rolled = True
            why, help = "training cannot be rolled back yet", "write `nan = stop`: it keeps checkpoints to resume from"
            context.refuse(f"guard.{key}", why, help)
        elif key in _UNWATCHED:
            context.refuse(f"guard.{key}", *_UNWATCHED[key])
    for key in ("retries", "cut_lr"):
        if context.is_explicit(f"guard.{key}") and not rolled:
            why = f"`{key}` is an option of rolling back, which is not possible yet"
            context.refuse(f"guard.{key}", why, "drop it")
