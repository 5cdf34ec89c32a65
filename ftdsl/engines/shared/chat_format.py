"""Chat formats: the texts around the turns of a conversation, by the names that recipes use.

The texts are those of the catalogue (LLaMA-Factory's own templates), so that a row has the same token ids wherever it is written.
"""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.engines.shared.extending import template_of
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Term


def spec(context: StageContext) -> dict[str, Any]:
    """`data.template`: the fields of runtime/tuning/formats.py, Format. {} where the stage has no conversations."""
    name = context.name("template")
    if context.stage.kind == "pretrain" or not name:
        return {}
    own = context.plan.recipe.templates.get(name)
    template = _own(template_of(context, own)) if own else _listed(name)
    if template is None:
        context.refuse("template", f"the texts of the template `{name}` are not known for {context.engine.title}")
        return {}
    if (system := context.get("system")) is not None:
        template["default_system"] = str(system)
    thinking = context.get("thinking")
    if isinstance(thinking, bool):
        template["thinking"] = thinking
    elif isinstance(thinking, Term):  # mixed
        template["thinking"] = None
    if context.get("keep_thinking"):
        template["keep_thinking"] = True
    return template


def _listed(name: str) -> dict[str, Any] | None:
    """A format of the catalogue; parts that are left out have the defaults of the runtime's Format."""
    _, formats = catalog.chat_formats()
    fact = formats.get(name)
    if fact is None:
        return None
    parts: dict[str, Any] = {"name": name, **{key: value for key, value in fact.items() if key != "type"}}
    if fact.get("efficient_eos"):
        parts.setdefault("assistant", ["{{content}}"])
    return parts


def _own(template: dict[str, Any]) -> dict[str, Any]:
    """A template of the recipe: each part is one text; a system prompt without a format is written like a user's turn."""
    parts: dict[str, Any] = {name: template[name] for name in ("name", "default_system", "stop") if name in template}
    parts |= {name: [template[name]] for name in ("user", "assistant", "system", "tool", "prefix") if name in template}
    parts.setdefault("system", parts.get("user", ["{{content}}"]))
    return parts
