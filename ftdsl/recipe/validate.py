"""Validation before compilation, with the pydantic model of each stage's kind.

The resolver has already checked units, members and bounds, so no errors are expected; a test compares the two. An error is still
reported with a span, never as a traceback.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ftdsl.diagnostics import Sink
from ftdsl.recipe.models import STAGES
from ftdsl.recipe.recipe import Recipe, Stage


def validate(recipe: Recipe, sink: Sink) -> None:
    """Report the values that the models of the stages refuse."""
    for stage in recipe.stages:
        for key, message in problems(stage):
            sink.error("FT003", message, stage.spans.get(key, stage.span))


def problems(stage: Stage) -> list[tuple[str, str]]:
    """(dotted key, message) of each invalid value."""
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
        return f"`{key}` must be {phrase} {error['ctx'][name]}"
    return f"`{key}` is not allowed here" if kind == "extra_forbidden" else f"invalid value of `{key}`"
