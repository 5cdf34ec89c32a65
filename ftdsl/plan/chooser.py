"""Collects the values that the plan fills in for one stage: dotted key -> value, with the reason."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from ftdsl.language.values import Term
from ftdsl.plan.plan import Choice
from ftdsl.recipe.settings import Settings, shown
from ftdsl.record import mutable


@mutable
class Chooser:
    """Choices for one stage, on top of its settings."""

    settings: Settings
    choices: list[Choice] = field(default_factory=list)
    filled: dict[str, Any] = field(default_factory=dict)
    blocks: set[str] = field(default_factory=set)

    def set(self, key: str, value: Any, reason: str, *, reported: bool = True) -> None:
        """Fill in a value. reported: shown to the user; a value that repeats the engine's default is not."""
        self.filled[key] = value
        self.choices.append(Choice(key, shown(value), reason, reported))

    def get(self, key: str) -> Any:
        return self.filled[key] if key in self.filled else self.settings.get(key)

    def unset(self, key: str) -> bool:
        """Whether the key is not set, or set to `auto`."""
        value = self.get(key)
        return value is None or value == "auto" or (isinstance(value, Term) and value.name == "auto")
