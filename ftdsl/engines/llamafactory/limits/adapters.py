"""Adapters that a stage starts from."""

from __future__ import annotations

from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.settings import Settings


def pissa(work: Work) -> None:
    """peft/tuners/lora/layer.py, pissa_init: a PiSSA adapter fits the base less its own start, which is drawn anew, and with
    `iterations` differently, each time the adapter is loaded.
    """
    start = work.stage.start
    for where in start.adapters if start else ():
        if isinstance(where, StageRef) and _unconverted(work.plan.stage(where.key).stage.settings):
            why = f"`{where.stage}` makes a PiSSA adapter, which fits the base it was split from only"
            help = f"in `{where.stage}` write `init = pissa(convert = true)`"
            key = "model" if "model" in work.stage.spans else "from"
            work.refuse(key, why, help)


def _unconverted(settings: Settings) -> bool:
    init = settings.get("lora.init") if settings.has("lora") else None
    return isinstance(init, Term) and init.name == "pissa" and init.options.get("convert") is not True
