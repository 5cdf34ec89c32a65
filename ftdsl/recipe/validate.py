"""Values into pydantic models, and pydantic's complaints in our words."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from ftdsl.recipe.models import Block

Model = TypeVar("Model", bound=Block)


def problems(model: type[Model], data: dict[str, Any]) -> tuple[Model | None, list[tuple[str, str]]]:
    """The model, or None with (dotted key, message) of each value that does not fit.

    The resolver has judged units, members and bounds already; what is left here is what it cannot know.
    """
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        found = {}
        for one in error.errors(include_url=False, include_context=True, include_input=False):
            words = [str(part) for part in one["loc"] if isinstance(part, str) and part.isidentifier()]
            found.setdefault(".".join(words[:3]), _said(words[-1] if words else "this", one))
        return None, list(found.items())


_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def _said(key: str, error: Any) -> str:
    kind = error["type"]
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"`{key}` is {words} {error['ctx'][name]}"
    if kind == "extra_forbidden":
        return f"`{key}` does not belong here"
    return f"`{key}` does not take this value"
