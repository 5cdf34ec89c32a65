"""The last word before anything is compiled: every stage through the pydantic model of its kind.

The resolver has judged units, members and bounds at the place where they stand, so nothing should be left to find here;
a test holds the two to each other. What is found all the same is a user's error with a span, never a traceback.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ftdsl.diagnostics import Sink
from ftdsl.recipe.models import STAGES
from ftdsl.recipe.recipe import Recipe, Stage


def validate(recipe: Recipe, sink: Sink) -> None:
    """Report what the models of the recipe's stages refuse."""
    for stage in recipe.stages:
        for key, message in problems(stage):
            sink.error("FT003", message, stage.spans.get(key, stage.span))


def problems(stage: Stage) -> list[tuple[str, str]]:
    """(dotted key, message) of each value that does not fit."""
    try:
        STAGES[stage.kind].model_validate(stage.settings.nested())
    except ValidationError as error:
        messages: dict[str, str] = {}
        for detail in error.errors(include_url=False, include_context=True, include_input=False):
            keys = [str(part) for part in detail["loc"] if isinstance(part, str) and part.isidentifier()]
            messages.setdefault(".".join(keys[:2]), _message(keys[-1] if keys else "this", detail))
        return list(messages.items())
    return []


_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def _message(key: str, error: Any) -> str:
    kind = error["type"]
    if kind in _BOUNDS:
        name, phrase = _BOUNDS[kind]
        return f"`{key}` is {phrase} {error['ctx'][name]}"
    return f"`{key}` does not belong here" if kind == "extra_forbidden" else f"`{key}` does not take this value"
