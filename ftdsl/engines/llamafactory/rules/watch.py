"""What happens on the way: checkpoints, evaluation, logs, trackers, guards."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.llamafactory.words import plain
from ftdsl.engines.llamafactory.work import Params, Work
from ftdsl.language.values import Amount, Term


def _strategy(value: Any) -> tuple[str, float | int | None]:
    """An interval as transformers' strategy and number (a share stays below 1)."""
    if isinstance(value, Term):
        return ("no" if value.name == "never" else value.name), None
    if value.unit == "epochs":
        return "epoch", None
    return "steps", value.number if value.unit == "share" else int(value.number)


def save_every(work: Work) -> Params:
    value = work.get("save.every")
    if value is None:
        return {}
    if isinstance(value, Amount) and value.unit == "time":  # our runtime looks at the clock
        if work.get("save.best_by") is not None:
            why = "the best checkpoint is chosen where the engine scores one, which it does every so many steps"
            work.refuse("save.every", why, "write `every = 500 steps`")
        return {"save_strategy": "no"}
    if isinstance(value, Amount) and value.unit == "epochs" and value.number != 1:
        work.refuse("save.every", "LLaMA-Factory saves every epoch, or every so many steps", "write `every = 1 epoch`")
        return {}
    strategy, steps = _strategy(value)
    return {"save_strategy": strategy, **({"save_steps": steps} if steps is not None else {})}


def keep(work: Work) -> Params:
    value = work.get("save.keep")
    return {"save_total_limit": value} if isinstance(value, int) else {}


def best_by(work: Work) -> Params:
    value = work.get("save.best_by")
    if value is None:
        return {}
    higher = isinstance(value, Term) and value.name == "highest"
    metric = str(value.options.get("metric", value.name) if isinstance(value, Term) else value)
    metric = metric.replace("rouge_l", "rouge-l").replace("rouge_1", "rouge-1").replace("rouge_2", "rouge-2")
    greater = higher or (not metric.endswith("loss") and not (isinstance(value, Term) and value.name == "lowest"))
    return {"load_best_model_at_end": True, "metric_for_best_model": metric, "greater_is_better": greater}


def eval_every(work: Work) -> Params:
    if not work.get("evaluate.data"):
        return {}
    value = work.get("evaluate.every")
    if value is None:
        return {}
    strategy, steps = _strategy(value)
    params: Params = {"eval_strategy": strategy, **({"eval_steps": steps} if steps is not None else {})}
    params["per_device_eval_batch_size"] = work.get("evaluate.batch") or work.get("batch.micro")
    return params


def metrics(work: Work) -> Params:
    names = {plain(metric) for metric in work.get("evaluate.metrics") or ()}
    if names & {"rouge", "bleu"} and work.planned.strategy == "zero3":
        work.refuse("evaluate.metrics", "rouge and bleu generate, which is not possible with zero3")
    return (
        {"compute_accuracy": True}
        if "accuracy" in names
        else {"predict_with_generate": True}
        if names - {"loss"}
        else {}
    )


def track_to(work: Work) -> Params:
    items = work.stage.settings.items("track.to")
    names = [plain(item) for item in items]
    params: Params = {"report_to": names[0] if len(names) == 1 else names or "none"}
    swan = next((item for item in items if isinstance(item, Term) and item.name == "swanlab"), None)
    if swan:
        params |= {
            "use_swanlab": True,
            **{f"swanlab_{k.replace('dir', 'logdir')}": plain(v) for k, v in swan.options.items()},
        }
    if work.get("track.project") and work.said("track.project"):
        params["project"] = work.get("track.project")
    return params


def log_every(work: Work) -> Params:
    value = work.get("track.every")
    if not isinstance(value, Amount):  # a share of the run is a plain number here
        return {"logging_steps": value} if value else {}
    return {"logging_steps": value.number if value.unit == "share" else int(value.number)}


def guard(work: Work) -> Params:
    """NaN is never logged as 0: the engine's filter is always off."""
    _refuse_guards(work)
    params: Params = {"logging_nan_inf_filter": False}
    if work.get("guard.patience"):
        params["early_stopping_steps"] = work.get("guard.patience")
    return params


_CLIP = "write `optim { clip = 1.0 }`, which scales large gradients down"
_UNWATCHED = {
    "spike": ("leaps of the loss are not looked for yet", "drop it; `nan = stop` is there"),
    "grad_norm": ("steps are not judged by their gradients yet", _CLIP),
}


def _refuse_guards(work: Work) -> None:
    """One message for each cause: what is about rolling back says nothing of its own beside a rollback."""
    rolled = False
    for key in ("nan", "spike", "grad_norm"):
        action = work.name(f"guard.{key}")
        if not work.said(f"guard.{key}") or action == "ignore":
            continue
        if action == "rollback":
            rolled = True
            why, help = "a training cannot be rolled back yet", "write `nan = stop`: checkpoints stay, for `resume`"
            work.refuse(f"guard.{key}", why, help)
        elif key in _UNWATCHED:
            work.refuse(f"guard.{key}", *_UNWATCHED[key])
    for key in ("retries", "cut_lr"):
        if work.said(f"guard.{key}") and not rolled:
            why = f"`{key}` is about rolling back, which cannot be done yet"
            work.refuse(f"guard.{key}", why, "drop it")
