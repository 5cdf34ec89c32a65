"""What LLaMA-Factory has no parameter for and our runtime adds (runtime/extend.py): the spec it is given, `extend.json`."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Document
from ftdsl.engines.shared.overlay import plain
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer.optimizer import drawn_by_engine, phases
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.settings import Settings


def extension(context: StageContext, folder: str = "", *, training: bool) -> Document | None:
    """The spec of a stage; None where the engine can do all that is asked. Other stages need the template only.

    folder: where it is put, if not beside the stage's other documents.
    """
    spec: dict[str, Any] = {}
    if template := context.plan.recipe.templates.get(context.name("template")):
        spec["template"] = _template(context, template)
    if training:
        spec |= _training(context)
    return Document(f"{folder or context.folder}/extend.json", "json", spec) if spec else None


def own_files(context: StageContext) -> list[str]:
    """Files of the recipe's folder that a stage reads besides data: callbacks, and tokens with their descriptions."""
    files = [str(plain(item)).partition(":")[0].replace(".", "/") + ".py" for item in context.get("callbacks") or ()]
    special = context.get("tokenizer.special")
    if isinstance(special, Term) and special.name == "file":
        files.append(str(special.options["path"]))
    return [name for name in files if context.session.files.exists(context.plan.recipe.folder / name)]


def _template(context: StageContext, template: Settings) -> dict[str, Any]:
    """`{content}` is what the recipe's `{{content}}` stands for; the engine writes it with two braces."""
    found: dict[str, Any] = {"name": context.name("template")}
    for part in ("user", "assistant", "system", "tool", "prefix", "default_system"):
        if (text := template.get(part)) is not None:
            found[part] = str(text).replace("{content}", "{{content}}")
    if stop := template.get("stop"):
        found["stop"] = list(stop)
    if "user" not in found:
        context.refuse("template", f"the template `{found['name']}` does not say how a user's turn is written")
    return found


def _frozen_in_half(context: StageContext) -> bool:
    """Whether weights that do not learn would stay in the type of the checkpoint, where fp32 is asked for.

    No parameter changes that: `infer_dtype` counts only for what does not train (llamafactory/model/patcher.py:322). Under
    ZeRO-3 they are loaded in fp32; quantised ones stay as they are.
    """
    planned = context.planned
    asked = context.is_explicit("precision") and planned.precision == "fp32"
    return (
        asked
        and planned.method != "full"
        and planned.strategy not in ("zero3", "megatron")
        and not context.get("quantize.bits")
    )


def _training(context: StageContext) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if _frozen_in_half(context):
        found["weights"] = "float32"
    if not drawn_by_engine(context):
        found["schedule"] = phases(context)
    dropout = {name: context.get(f"{name}_dropout") for name in ("attention", "hidden")}
    if any(rate is not None for rate in dropout.values()):
        found["dropout"] = {name: float(rate) for name, rate in dropout.items() if rate is not None}
    every = context.get("save.every")
    if isinstance(every, Amount) and every.unit == "time":
        found["save_seconds"] = every.number
    if own := [str(plain(item)) for item in context.get("callbacks") or ()]:
        found["callbacks"] = own
        for place in own:
            if place.count(":") != 1:
                context.refuse("callbacks", f"`{place}` names no class", 'write `callbacks = ["package.module:Class"]`')
    return found
