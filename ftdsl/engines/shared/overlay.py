"""Applies the overlay: keys that map one to one onto parameters; a key that nothing lowers is an error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ftdsl import catalog
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.language.values import Amount, Secret, Term
from ftdsl.recipe.settings import METHODS

Entry = Mapping[str, Any]

_PATHS = ("weights", "experts", "dir")
"""Options that name files (`ktransformers(weights = "…")`), relative to the recipe's folder like all paths."""

_LISTED = ("optim.name",)
"""Keys whose unlisted members go to the engine under the name in the recipe."""

GROUPS = ("train", "dpo", "kto", "ppo", "grpo", "distill", "data", "eval", "merge", "stage_quantize", "shell")
_OPEN = ("env", "gate", "launch.runtime_env", *catalog.PASSTHROUGH)

PLANNED = {
    "hardware.gpu", "hardware.count", "hardware.devices", "hardware.cpus", "hardware.memory", "hardware.link",
    "hardware.network", "hardware.price", "budget.time", "budget.memory", "budget.disk", "budget.cost", "launch.head",
    "launch.port", "launch.retries", "parallel.data", "parallel.strategy", "parallel.offload", "parallel.replicate",
    "parallel.tensor", "parallel.pipeline", "parallel.context", "parallel.expert", "parallel.sequence", "batch.global",
    "batch.tokens", "after", "settings", "to", "batch", "name", "engine", "gate", "track.name",
    "target",
}  # fmt: skip
"""Keys that the plan, `targets` and `run` carry out for every engine."""


@cache
def entries(engine: str, kind: str) -> tuple[tuple[str, Entry], ...]:
    """(dotted key, overlay entry) of every key that a stage kind may have, the kind's own before the common ones."""
    return tuple(_entries(engine, kind))


def _entries(engine: str, kind: str) -> Iterator[tuple[str, Entry]]:
    tables = catalog.overlay(engine)
    own = "stage_quantize" if kind == "quantize" else kind
    listed: set[str] = set()
    for group in (own, "train"):
        for name, entry in tables.get(group, {}).items():
            if group in GROUPS and name not in listed:
                listed.add(name)
                yield name, entry
    for block, table in tables.items():
        if block not in GROUPS and not block.startswith("_") and block not in ("file", "template", "search"):
            for name, entry in table.items():
                yield f"{block}.{name}", entry


def refuse_unlowered(context: StageContext, rules: frozenset[str]) -> None:
    """A key that the author set and nothing lowers is an error; it is never dropped silently."""
    overlay = dict(entries(context.engine.name, context.stage.kind))
    engine = context.engine
    absent = tuple(name for name in METHODS if name not in engine.methods)  # one message for the block is enough
    if (method := context.planned.method) in absent:
        context.refuse(method, *engine.unsupported.get(method, (f"{engine.title} has no `{method}`", "")))
    for key, origin in context.stage.origins.items():
        if origin.kind in ("auto", "default") or key in PLANNED or key in engine.lowered:
            continue
        if key.startswith(tuple(f"{block}." for block in (*catalog.known_engines(), *_OPEN, *absent))):
            continue
        entry = overlay.get(key)
        rule = _rule(entry) if entry is not None else None
        if entry is not None and (rule in rules if rule else _written(entry)):
            continue
        if context.get(key) in (None, [], False) or context.name(key) in ("auto", "none", "ignore", "never"):
            continue
        unknown = f"`{key}` cannot be compiled for {engine.title} {context.versions.of()} yet"
        why, help = engine.unsupported.get(key, (unknown, ""))
        context.refuse(key, why, help)


def _rule(entry: Entry) -> str | None:
    """The function that lowers a key, if the table does not."""
    rule: str | None = entry.get("rule") or entry.get("by")
    return rule


def _written(entry: Entry) -> bool:
    return any("." not in to and to != "own" for to in entry["to"]) or any(to.startswith("env.") for to in entry["to"])


def params(context: StageContext, kind: str, only: frozenset[str] | None = None) -> Params:
    """Parameters of every key that has a value and no lowering of its own."""
    params: Params = {}
    for key, entry in entries(context.engine.name, kind):
        if _rule(entry) or (only is not None and key not in only):
            continue
        if key.startswith("generate.") and not context.is_explicit(key):
            continue  # no effect while only losses are computed
        value = context.get(key)
        if value is not None:
            params |= _apply(context, key, entry, value)
    return params


def environment(context: StageContext) -> dict[str, Any]:
    """Environment variables that keys map to, and those of the `env { }` block."""
    variables: dict[str, Any] = {}
    for key, entry in entries(context.engine.name, context.stage.kind):
        for to in entry["to"]:
            if to.startswith("env.") and not _rule(entry) and context.is_explicit(key):
                name, _, function = to.removeprefix("env.").partition(":")
                variables[name] = str(_converted(context.get(key), function or "csv"))
    for name, value in context.stage.settings.inside("env").items():
        variables[name] = value if isinstance(value, Secret) else str(plain(value))
    return variables


def _apply(context: StageContext, key: str, entry: Entry, value: Any) -> Params:
    if isinstance(value, Term) and value.name in entry.get("members", ()):
        return _member(context, key, entry, value)
    if isinstance(value, Term) and value.options and _written(entry):  # otherwise the key itself is an error already
        context.refuse(key, f"{context.engine.title} takes no options for `{value.name}`")
    name = value.name if isinstance(value, Term) else None
    if name is not None and not _knows(entry, key, name):
        members = dict.fromkeys((*entry.get("members", ()), *entry.get("map", ())))
        context.refuse(
            key, f"{context.engine.title} {context.versions.of()} has no `{name}`", f"one of: {', '.join(members)}"
        )
        return {}
    if name is not None and entry.get("map", {}).get(name) == "null":
        return {}
    if name is not None and "map" in entry:
        value = entry["map"].get(name, name)
    params = {}
    for to in entry["to"]:
        target, _, function = to.partition(":")
        if "." not in target and target != "own":
            params[target] = _converted(value, function)
            break  # `members` writes the others, or they belong to another file
    return params


def _knows(entry: Entry, key: str, name: str) -> bool:
    """Whether the engine has the member: it is listed, or the key is open (optimizers, templates)."""
    listed = (*entry.get("members", ()), *entry.get("map", ()))
    return not listed or name in listed or key in _LISTED


def _member(context: StageContext, key: str, entry: Entry, value: Term) -> Params:
    params: Params = {}
    for text in entry.get("set", {}).get(value.name, ()):
        name, _, written = text.partition("=")
        params[name] = json.loads(written) if written in ("true", "false") else written
    options = entry.get("opts", {}).get(value.name, {})
    for option, given in value.options.items():
        if option not in options:
            context.refuse(key, f"{context.engine.title} has no option `{option}` of `{value.name}`")
        else:
            params[options[option]] = _option(entry.get("values", {}).get(value.name, {}), option, given)
    return params


def _option(values: Mapping[str, Any], option: str, value: Any) -> Any:
    """An option's value for the engine. values: the engine's names where they differ from the recipe's."""
    if isinstance(value, str) and option in _PATHS:
        return seen_from_run(value)
    if isinstance(value, Term):
        return values.get(value.name, value.name)
    return _converted(value, "csv" if isinstance(value, list | tuple) else "")


def _converted(value: Any, function: str) -> Any:
    value = plain(value)
    if function == "csv":
        return ",".join(map(str, value)) if isinstance(value, list) else value
    if function == "path":
        return seen_from_run(value)
    if function == "not":
        return not value
    if function == "gb":
        return max(1, round(value / 1e9))
    if function == "seconds":
        return int(value)
    return value


def plain(value: Any) -> Any:
    """A value of the recipe as YAML data."""
    if isinstance(value, Term):
        return value.name
    if isinstance(value, Amount):
        return value.number if value.unit in ("share", "rate") else int(value.number)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
