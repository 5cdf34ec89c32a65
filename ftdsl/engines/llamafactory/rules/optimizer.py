"""The optimizer: its moments, the curve of the learning rate, how long it goes on."""

from __future__ import annotations

import math
from typing import Any

from ftdsl.engines.llamafactory.words import plain
from ftdsl.engines.llamafactory.work import Params, Work
from ftdsl.language.values import Amount, Term


def duration(work: Work) -> Params:
    value = work.get("duration")
    if not isinstance(value, Amount):
        return {"num_train_epochs": 3.0}
    if value.unit == "epochs":
        return {"num_train_epochs": float(value.number)}
    if value.unit == "steps":
        return {"max_steps": int(value.number)}
    if value.unit == "tokens" and work.planned.batch:
        per_step = work.planned.batch.total * int(work.get("max_len"))
        return {"max_steps": math.ceil(value.number / per_step)}
    work.refuse("duration", "LLaMA-Factory cannot train for a time", "write steps or epochs")
    return {}


def betas(work: Work) -> Params:
    value = work.get("optim.betas")
    return {"adam_beta1": value[0], "adam_beta2": value[1]} if value and work.said("optim.betas") else {}


def schedule(work: Work) -> Params:
    """The curve of the rate; three phases that the engine's own trapezoid can draw are drawn with it."""
    value = work.get("optim.schedule")
    if isinstance(value, list | tuple):
        return _phases(work, list(value))
    name = value.name if isinstance(value, Term) else "cosine"
    options = dict(value.options) if isinstance(value, Term) else {}
    floor = work.get("optim.min_lr")
    if name == "wsd":
        return _wsd(work, options, floor)
    if name == "cosine" and floor:
        key = "min_lr_rate" if floor.unit == "share" else "min_lr"
        return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {key: floor.number}}
    if floor:
        work.refuse("optim.min_lr", f"`{name}` has no floor in transformers", "use `schedule = cosine` or `wsd`")
    if name == "greedy":
        work.refuse("optim.schedule", f"LLaMA-Factory {work.versions.of()} has no `greedy` schedule")
    kwargs = {_SCHEDULE_OPTIONS.get(key, key): option for key, option in options.items()}
    return {"lr_scheduler_type": name, **({"lr_scheduler_kwargs": kwargs} if kwargs else {})}


_SCHEDULE_OPTIONS = {"cycles": "num_cycles", "power": "power"}


def _wsd(work: Work, options: dict[str, Any], floor: Any) -> Params:
    kwargs: Params = {}
    for key, name in (("stable", "num_stable_steps"), ("decay", "num_decay_steps")):
        if isinstance(options.get(key), Amount):
            kwargs[name] = int(options[key].number)
    if floor and floor.unit == "share":
        kwargs["min_lr_ratio"] = floor.number
    elif floor:
        kwargs["min_lr_ratio"] = floor.number / work.get("optim.lr")
    if shape := plain(options.get("shape")):
        kwargs["decay_type"] = shape
    return {"lr_scheduler_type": "warmup_stable_decay", **({"lr_scheduler_kwargs": kwargs} if kwargs else {})}


def _phases(work: Work, phases: list[Term]) -> Params:
    """`[warmup(), hold(), decay()]` is transformers' warmup_stable_decay when the rate starts at 0."""
    names = [phase.name for phase in phases]
    lengths = [
        next((v for v in phase.options.values() if isinstance(v, Amount) and v.unit == "steps"), None)
        for phase in phases
    ]
    starts = phases[0].options.get("start") if names[:1] == ["warmup"] else None
    if names != ["warmup", "hold", "decay"] or any(length is None for length in lengths) or (starts and starts.number):
        why = (
            "only `[warmup(… steps), hold(… steps), decay(… steps)]`, from 0 on, can be compiled for LLaMA-Factory yet"
        )
        work.refuse("optim.schedule", why)
        return {}
    warm, hold, decay = (int(length.number) for length in lengths if length)
    kwargs: Params = {"num_stable_steps": hold, "num_decay_steps": decay}
    last = phases[2].options
    if isinstance(last.get("to"), Amount):
        to = last["to"]
        kwargs["min_lr_ratio"] = to.number if to.unit == "share" else to.number / work.get("optim.lr")
    if last.get("shape") is not None:
        kwargs["decay_type"] = plain(last["shape"])
    return {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kwargs, "warmup_steps": warm}


def warmup(work: Work) -> Params:
    """transformers 5 takes a share as `warmup_steps` below 1."""
    value = work.get("optim.warmup")
    if not isinstance(value, Amount) or not value.number:
        return {}
    return {"warmup_steps": value.number if value.unit == "share" else int(value.number)}
