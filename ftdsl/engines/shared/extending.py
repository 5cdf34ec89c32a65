"""What engines on transformers' Trainer have no parameter for, and ftdsl's runtime adds (runtime/extend.py)."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer.optimizer import drawn_by_engine, phases
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.settings import Settings


def own_files(context: StageContext) -> list[str]:
    """Files of the recipe's folder that a stage reads besides its data: callbacks, and descriptions of new tokens."""
    files = [str(plain(item)).partition(":")[0].replace(".", "/") + ".py" for item in context.get("callbacks") or ()]
    special = context.get("tokenizer.special")
    if isinstance(special, Term) and special.name == "file":
        files.append(str(special.options["path"]))
    return [name for name in files if context.session.files.exists(context.plan.recipe.folder / name)]


def template_of(context: StageContext, template: Settings) -> dict[str, Any]:
    """The recipe's `{{content}}` arrives here as `{content}`; the engine expects two braces."""
    spec: dict[str, Any] = {"name": context.name("template")}
    for part in ("user", "assistant", "system", "tool", "prefix", "default_system"):
        if (text := template.get(part)) is not None:
            spec[part] = str(text).replace("{content}", "{{content}}")
    if stop := template.get("stop"):
        spec["stop"] = list(stop)
    if "user" not in spec:
        context.refuse("template", f"the template `{spec['name']}` has no `user`, the format of a user's turn")
    return spec


def additions(context: StageContext) -> dict[str, Any]:
    """Fields of the spec of a training: the schedule in phases, dropout, checkpoints by time, the author's callbacks."""
    spec: dict[str, Any] = {}
    if not drawn_by_engine(context):
        spec["schedule"] = phases(context)
    dropout = {name: context.get(f"{name}_dropout") for name in ("attention", "hidden")}
    if any(rate is not None for rate in dropout.values()):
        spec["dropout"] = {name: float(rate) for name, rate in dropout.items() if rate is not None}
    every = context.get("save.every")
    if isinstance(every, Amount) and every.unit == "time":
        spec["save_seconds"] = every.number
    if own := [str(plain(item)) for item in context.get("callbacks") or ()]:
        spec["callbacks"] = own
        for callback in own:
            if callback.count(":") != 1:
                context.refuse(
                    "callbacks", f"`{callback}` is not a class", 'write `callbacks = ["package.module:Class"]`'
                )
    return spec
