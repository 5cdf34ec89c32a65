"""Checkpoints, evaluation, logs and trackers: parameters of transformers' Trainer."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Amount, Term


def _strategy(value: Any) -> tuple[str, float | int | None]:
    """An interval as transformers has it: strategy and number (a share is below 1)."""
    if isinstance(value, Term):
        return ("no" if value.name == "never" else value.name), None
    if value.unit == "epochs":
        return "epoch", None
    return "steps", value.number if value.unit == "share" else int(value.number)


def save_every(context: StageContext) -> Params:
    value = context.get("save.every")
    if value is None:
        return {}
    if isinstance(value, Amount) and value.unit == "time":  # ftdsl's runtime saves by the clock
        if context.get("save.best_by") is not None:
            why = "`best_by` needs checkpoints at the steps at which the engine evaluates, not by time"
            context.refuse("save.every", why, "write `every = 500 steps`")
        return {"save_strategy": "no"}
    if isinstance(value, Amount) and value.unit == "epochs" and value.number != 1:
        context.refuse(
            "save.every", f"{context.engine.title} saves every epoch, or every N steps", "write `every = 1 epoch`"
        )
        return {}
    strategy, steps = _strategy(value)
    return {"save_strategy": strategy, **({"save_steps": steps} if steps is not None else {})}


def keep(context: StageContext) -> Params:
    value = context.get("save.keep")
    return {"save_total_limit": value} if isinstance(value, int) else {}


def best_by(context: StageContext) -> Params:
    value = context.get("save.best_by")
    if value is None:
        return {}
    higher = isinstance(value, Term) and value.name == "highest"
    metric = str(value.options.get("metric", value.name) if isinstance(value, Term) else value)
    metric = (
        metric.replace("rouge_l", "rouge-l")
        .replace("rouge_1", "rouge-1")
        .replace("rouge_2", "rouge-2")
        .replace("bleu_4", "bleu-4")
    )
    greater = higher or (not metric.endswith("loss") and not (isinstance(value, Term) and value.name == "lowest"))
    return {"load_best_model_at_end": True, "metric_for_best_model": metric, "greater_is_better": greater}


def eval_every(context: StageContext) -> Params:
    if not context.get("evaluate.data"):
        return {}
    value = context.get("evaluate.every")
    if value is None:
        return {}
    strategy, steps = _strategy(value)
    params: Params = {"eval_strategy": strategy, **({"eval_steps": steps} if steps is not None else {})}
    params["per_device_eval_batch_size"] = context.get("evaluate.batch") or context.get("batch.micro")
    return params


def track_to(context: StageContext) -> Params:
    items = context.stage.settings.items("track.to")
    names = [plain(item) for item in items]
    params: Params = {"report_to": names[0] if len(names) == 1 else names or "none"}
    swan = next((item for item in items if isinstance(item, Term) and item.name == "swanlab"), None)
    if swan:
        params |= {
            "use_swanlab": True,
            **{f"swanlab_{k.replace('dir', 'logdir')}": plain(v) for k, v in swan.options.items()},
        }
    if context.get("track.project") and context.is_explicit("track.project"):
        params["project"] = context.get("track.project")
    return params


def log_every(context: StageContext) -> Params:
    value = context.get("track.every")
    if not isinstance(value, Amount):  # a share of the run is a plain number here
        return {"logging_steps": value} if value else {}
    return {"logging_steps": value.number if value.unit == "share" else int(value.number)}
