"""Parameters as the version that counts takes them: older names and values where it has them, an error at the word else.

The lowering speaks of the newest version; `data/changes.toml` says how older ones said the same.
"""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.engines.llamafactory.work import Work

ENGINE = "llamafactory"
TITLES = {ENGINE: "LLaMA-Factory"}


def fitted(work: Work, params: dict[str, Any]) -> dict[str, Any]:
    """The same for the engine's version in force. What it cannot take is refused where it is said."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        fact = work.versions.schema.get(name)
        if fact is None or _needs_a_share(fact, value):
            found |= _as_before(work, name, value)
        else:
            found[name] = _value(work, name, value, fact)
    return found


def _needs_a_share(fact: catalog.Fact, value: Any) -> bool:
    """A share of all steps, where the version counts steps only."""
    return fact["type"] == "int" and isinstance(value, float) and 0 < value < 1


def _as_before(work: Work, name: str, value: Any) -> dict[str, Any]:
    """How the version said it before the parameter had its name."""
    for package in (ENGINE, "transformers"):
        for change in catalog.older(package, name):
            before = change.was(value)
            if before and change.old in work.versions.schema:
                return before
    if not _is_default(name, value):
        _refuse(work, name, f"`{name}`", work.versions.history(name))
    return {}


def _is_default(name: str, value: Any) -> bool:
    """A value that says no more than silence does need not be said to a version that has not the parameter."""
    fact = catalog.engine_schema(ENGINE).get(name, {})
    return bool("default" in fact and fact["default"] == value)


def _value(work: Work, name: str, value: Any, fact: catalog.Fact) -> Any:
    """The value as the version spells it; one that it lacks is refused."""
    if not isinstance(value, str):
        return value
    table, prefix = _SETS.get(name, ("", ""))
    if table:
        package = ENGINE if table == "templates" else "transformers"
        known = catalog.schema(package, work.versions.facts(package), table)
        if f"{prefix}{value}" in known or value in work.plan.recipe.templates:
            return value
        history = catalog.key_history(package, f"{prefix}{value}", table)
        if history is not None:
            _refuse(work, name, f"`{value}`", history)
        return value
    choices = fact.get("choices")
    if choices is None or value in choices:
        return value
    for package in (ENGINE, "transformers"):
        for change in catalog.value_changes(package, name):
            if change.new == value and change.old in choices:
                return change.old
    newest = catalog.engine_schema(ENGINE).get(name, {}).get("choices", ())
    if value in newest:
        _refuse(work, name, f"`{value}` of `{name}`", None)
    return value


_SETS = {
    "template": ("templates", ""),
    "optim": ("enums", "OptimizerNames."),
    "lr_scheduler_type": ("enums", "SchedulerType."),
}
"""Parameters whose values have a history of their own: the table of it, and what stands before each name there."""


def _refuse(work: Work, name: str, what: str, history: catalog.KeyHistory | None) -> None:
    standing = catalog.standing(ENGINE, name)
    package = history.package if history else ENGINE
    title = TITLES.get(package, package)
    text = f"{title} {work.versions.of(package)} has no {what}"
    help = ""
    if history and not history.until:
        text += f": it exists since {history.since}"
        help = _newer(package, history.since)
    elif history:
        text += f": it is gone since {history.until}"
        help = f"write {history.replaced_by} instead" if history.replaced_by else "drop it"
    work.refuse(standing.word if standing and standing.word else name, text, help)


def _newer(package: str, version: str) -> str:
    """What to write to get it."""
    if package == ENGINE:
        return f'write `engine = llamafactory("{version}")` or newer'
    return f"use {package} {version} or newer"
