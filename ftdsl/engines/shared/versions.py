"""Adapts parameters to the engine's version in force: older names and values where it has them, otherwise an error at the key.

The lowering writes the newest version's parameters; `data/changes.toml` has the equivalents of older versions.
"""

from __future__ import annotations

from typing import Any

from ftdsl import catalog
from ftdsl.engines.shared.stage_context import StageContext


def adapt_to_version(context: StageContext, params: dict[str, Any]) -> dict[str, Any]:
    """The equivalent parameters for the engine's version in force. What the version lacks is an error at its key."""
    adapted: dict[str, Any] = {}
    for name, value in params.items():
        fact = context.versions.schema.get(name)
        if fact is None or _needs_a_share(fact, value):
            adapted |= _as_before(context, name, value)
        else:
            adapted[name] = _value(context, name, value, fact)
    return adapted


def _needs_a_share(fact: catalog.Fact, value: Any) -> bool:
    """Whether the value is a share of all steps and the version takes only a number of steps."""
    return fact["type"] == "int" and isinstance(value, float) and 0 < value < 1


def _as_before(context: StageContext, name: str, value: Any) -> dict[str, Any]:
    """The equivalent in a version that does not have the parameter, or not under this name."""
    for package in (context.engine.name, "transformers"):
        for change in catalog.older(package, name):
            before = change.was(value)
            if before and change.old in context.versions.schema:
                return before
    if not _is_default(context, name, value):
        _refuse(context, name, f"`{name}`", context.versions.history(name))
    return {}


def _is_default(context: StageContext, name: str, value: Any) -> bool:
    """Whether the value equals the default: then a parameter that the version lacks can be skipped."""
    fact = catalog.engine_schema(context.engine.name).get(name, {})
    return bool("default" in fact and fact["default"] == value)


def _value(context: StageContext, name: str, value: Any, fact: catalog.Fact) -> Any:
    """The value as the version spells it; a value that it lacks is an error."""
    if not isinstance(value, str):
        return value
    table, prefix = _SETS.get(name, ("", ""))
    if table:
        package = context.engine.name if table == "templates" else "transformers"
        names = catalog.schema(package, context.versions.facts(package), table)
        if f"{prefix}{value}" in names or value in context.plan.recipe.templates:
            return value
        history = catalog.key_history(package, f"{prefix}{value}", table)
        if history is not None:
            _refuse(context, name, f"`{value}`", history)
        return value
    choices = fact.get("choices")
    if choices is None or value in choices:
        return value
    for package in (context.engine.name, "transformers"):
        for change in catalog.value_changes(package, name):
            if change.new == value and change.old in choices:
                return change.old
    newest = catalog.engine_schema(context.engine.name).get(name, {}).get("choices", ())
    if value in newest:
        _refuse(context, name, f"`{value}` of `{name}`", None)
    return value


_SETS = {
    "template": ("templates", ""),
    "optim": ("enums", "OptimizerNames."),
    "lr_scheduler_type": ("enums", "SchedulerType."),
}
"""Parameters whose values have a history of their own: its table, and the prefix of each name there."""


def _refuse(context: StageContext, name: str, what: str, history: catalog.KeyHistory | None) -> None:
    parameter_status = catalog.parameter_status(context.engine.name, name)
    package = history.package if history else context.engine.name
    title = context.engine.title if package == context.engine.name else package
    text = f"{title} {context.versions.of(package)} has no {what}"
    help = ""
    if history and not history.until:
        text += f": added in {history.since}"
        help = _newer(context, package, history.since)
    elif history:
        text += f": removed in {history.until}"
        help = f"write {history.replaced_by} instead" if history.replaced_by else "drop it"
    context.refuse(parameter_status.word if parameter_status and parameter_status.word else name, text, help)


def _newer(context: StageContext, package: str, version: str) -> str:
    """What to write to get a version that has it."""
    if package == context.engine.name:
        return f'write `engine = {package}("{version}")` or newer'
    return f"use {package} {version} or newer"
