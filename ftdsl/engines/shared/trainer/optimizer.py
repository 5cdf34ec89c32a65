"""Optimizer, learning-rate schedule and duration: parameters of transformers' Trainer."""

from __future__ import annotations

import math
from typing import Any

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Amount, Term
from ftdsl.runtime.ramp import steps_of


def duration(context: StageContext) -> Params:
    value = context.get("duration")
    if not isinstance(value, Amount):
        return {"num_train_epochs": 3.0}
    if value.unit == "epochs":
        return {"num_train_epochs": float(value.number)}
    if value.unit == "steps":
        return {"max_steps": int(value.number)}
    if value.unit == "tokens" and context.planned.batch:
        rows = value.number / int(context.get("max_len"))
        if context.planned.ramp:
            return {"max_steps": steps_of(context.planned.ramp, rows, context.planned.batch.data_parallel)}
        return {"max_steps": math.ceil(rows / context.planned.batch.total)}
    context.refuse("duration", f"{context.engine.title} cannot stop after a time", "write steps or epochs")
    return {}


def betas(context: StageContext) -> Params:
    value = context.get("optim.betas")
    return {"adam_beta1": value[0], "adam_beta2": value[1]} if value and context.is_explicit("optim.betas") else {}


def schedule(context: StageContext) -> Params:
    """The learning-rate schedule (transformers/optimization.py). Phases that its trapezoid cannot express are run by ftdsl's
    runtime, which replaces a constant schedule.
    """
    value = context.get("optim.schedule")
    if isinstance(value, list | tuple):
        if context.is_explicit("optim.warmup") and context.get("optim.warmup").number:
            context.refuse("optim.warmup", "the phases of `schedule` set the warm-up already", "drop it")
        return _trapezoid(context) if drawn_by_engine(context) else {"lr_scheduler_type": "constant"}
    name = value.name if isinstance(value, Term) else "cosine"
    options = dict(value.options) if isinstance(value, Term) else {}
    if name == "wsd":
        return _wsd(context, options)
    if name == "greedy":
        context.refuse(
            "optim.schedule",
            f"{context.engine.title} {context.versions.of()} has no `greedy` schedule",
            "write `reduce_lr_on_plateau`",
        )
    kwargs = {_SCHEDULE_OPTIONS.get(key, key): option for key, option in options.items()}
    name, floor = _floored(context, name)
    kwargs |= floor
    return {"lr_scheduler_type": name, **({"lr_scheduler_kwargs": kwargs} if kwargs else {})}


_SCHEDULE_OPTIONS = {"cycles": "num_cycles", "power": "power"}


def _floored(context: StageContext, name: str) -> tuple[str, Params]:
    """The schedule with a minimum rate: cosine has a variant with one, and a linear decay is a polynomial of power 1."""
    floor = context.get("optim.min_lr")
    if not floor or not floor.number:
        return name, {}
    if name == "cosine":
        return "cosine_with_min_lr", {"min_lr_rate" if floor.unit == "share" else "min_lr": floor.number}
    if name in ("linear", "polynomial"):
        lowest = floor.number * context.get("optim.lr") if floor.unit == "share" else floor.number
        return "polynomial", {"lr_end": float(f"{lowest:.12g}"), **({"power": 1.0} if name == "linear" else {})}
    context.refuse(
        "optim.min_lr", f"`{name}` has no minimum rate in transformers", "use `schedule = cosine`, `linear` or `wsd`"
    )
    return name, {}


def _wsd(context: StageContext, options: dict[str, Any]) -> Params:
    kwargs: Params = {}
    for key, name in (("stable", "num_stable_steps"), ("decay", "num_decay_steps")):
        if isinstance(options.get(key), Amount):
            kwargs[name] = int(options[key].number)
    if floor := context.get("optim.min_lr"):
        kwargs["min_lr_ratio"] = _share_of_peak(context, floor)
    if shape := plain(options.get("shape")):
        kwargs["decay_type"] = shape
    return {"lr_scheduler_type": "warmup_stable_decay", **({"lr_scheduler_kwargs": kwargs} if kwargs else {})}


def _share_of_peak(context: StageContext, level: Amount) -> float:
    """A rate, or a share of the peak, as a share."""
    return float(level.number if level.unit == "share" else level.number / context.get("optim.lr"))


def phases(context: StageContext) -> list[Params]:
    """The phases of `schedule = [warmup(…), hold(…), decay(…)]` for the runtime; rates are shares of the peak."""
    entries = []
    for phase in context.get("optim.schedule"):
        length = phase.options["length"]
        entry: Params = {"kind": phase.name, length.unit: plain(length)}
        entry |= {
            name: _share_of_peak(context, phase.options[name]) for name in ("start", "to") if name in phase.options
        }
        if phase.name == "decay":
            entry["shape"] = plain(phase.options.get("shape")) or "cosine"
        entries.append(entry)
    return entries


def drawn_by_engine(context: StageContext) -> bool:
    """Whether transformers has the schedule: a named one, or a warm-up from 0, a plateau and a decay, all in steps."""
    if not isinstance(context.get("optim.schedule"), list | tuple):
        return True
    drawn = phases(context)
    in_order = [phase["kind"] for phase in drawn] == ["warmup", "hold", "decay"]
    return in_order and all("steps" in phase for phase in drawn) and not drawn[0].get("start")


def _trapezoid(context: StageContext) -> Params:
    warm, hold, decay = phases(context)
    kwargs: Params = {"num_stable_steps": hold["steps"], "num_decay_steps": decay["steps"]}
    if "to" in decay:
        kwargs["min_lr_ratio"] = decay["to"]
    kwargs["decay_type"] = decay["shape"]
    return {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kwargs, "warmup_steps": warm["steps"]}


def warmup(context: StageContext) -> Params:
    """transformers 5 takes a share as `warmup_steps` below 1."""
    value = context.get("optim.warmup")
    if not isinstance(value, Amount) or not value.number:
        return {}
    return {"warmup_steps": value.number if value.unit == "share" else int(value.number)}
