"""What LLaMA-Factory measures during training, and what it is guarded against."""

from __future__ import annotations

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext


def metrics(context: StageContext) -> Params:
    names = {plain(metric) for metric in context.get("evaluate.metrics") or ()}
    if names & {"rouge", "bleu"} and context.planned.strategy == "zero3":
        context.refuse("evaluate.metrics", "rouge and bleu generate, which is not possible with zero3")
    return (
        {"compute_accuracy": True}
        if "accuracy" in names
        else {"predict_with_generate": True}
        if names - {"loss"}
        else {}
    )


def guard(context: StageContext) -> Params:
    """NaN is never logged as 0: the engine's filter is always off."""
    _refuse_guards(context)
    params: Params = {"logging_nan_inf_filter": False}
    if context.get("guard.patience"):
        params["early_stopping_steps"] = context.get("guard.patience")
    return params


_CLIP = "write `optim { clip = 1.0 }`, which scales large gradients down"
_UNWATCHED = {
    "spike": ("leaps of the loss are not looked for yet", "drop it; `nan = stop` is there"),
    "grad_norm": ("steps are not judged by their gradients yet", _CLIP),
}


def _refuse_guards(context: StageContext) -> None:
    """One message for each cause: what is about rolling back says nothing of its own beside a rollback."""
    rolled = False
    for key in ("nan", "spike", "grad_norm"):
        action = context.name(f"guard.{key}")
        if not context.is_explicit(f"guard.{key}") or action == "ignore":
            continue
        if action == "rollback":
            rolled = True
            why, help = "a training cannot be rolled back yet", "write `nan = stop`: checkpoints stay, for `resume`"
            context.refuse(f"guard.{key}", why, help)
        elif key in _UNWATCHED:
            context.refuse(f"guard.{key}", *_UNWATCHED[key])
    for key in ("retries", "cut_lr"):
        if context.is_explicit(f"guard.{key}") and not rolled:
            why = f"`{key}` is about rolling back, which cannot be done yet"
            context.refuse(f"guard.{key}", why, "drop it")
