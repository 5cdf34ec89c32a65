"""The overlay applied: words that map one to one onto parameters, and a refusal for every word nothing lowers."""

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
"""Options of members that name files (`ktransformers(weights = "…")`): seen from the recipe, as all paths are."""

_LISTED = ("optim.name",)
"""Words whose other members go to the engine by the name the recipe writes."""

GROUPS = ("train", "dpo", "kto", "ppo", "data", "eval", "merge", "stage_quantize", "shell")
_OPEN = ("env", "gate", "launch.runtime_env", *catalog.PASSTHROUGH)

PLANNED = {
    "hardware.gpu", "hardware.count", "hardware.devices", "hardware.cpus", "hardware.memory", "hardware.link",
    "hardware.network", "hardware.price", "budget.time", "budget.memory", "budget.disk", "budget.cost", "launch.head",
    "launch.port", "launch.retries", "parallel.data", "parallel.strategy", "parallel.offload", "parallel.replicate",
    "parallel.tensor", "parallel.pipeline", "parallel.context", "parallel.expert", "parallel.sequence", "batch.global",
    "batch.tokens", "after", "settings", "to", "batch", "name", "engine", "gate", "track.name",
}  # fmt: skip
"""Keys that the plan and the rooms around an engine carry out, whichever it is."""


@cache
def entries(engine: str, kind: str) -> tuple[tuple[str, Entry], ...]:
    """Dotted key and overlay entry of every key a stage kind may have, a kind's own before the common ones."""
    return tuple(_entries(engine, kind))


def _entries(engine: str, kind: str) -> Iterator[tuple[str, Entry]]:
    tables = catalog.overlay(engine)
    own = "stage_quantize" if kind == "quantize" else kind
    seen: set[str] = set()
    for group in (own, "train"):
        for name, entry in tables.get(group, {}).items():
            if group in GROUPS and name not in seen:
                seen.add(name)
                yield name, entry
    for block, table in tables.items():
        if block not in GROUPS and not block.startswith("_") and block not in ("file", "template", "search"):
            for name, entry in table.items():
                yield f"{block}.{name}", entry


def refuse_unlowered(context: StageContext, rules: frozenset[str]) -> None:
    """What the recipe says and nothing lowers is an error, never dropped in silence."""
    known = dict(entries(context.engine.name, context.stage.kind))
    engine = context.engine
    lacking = tuple(name for name in METHODS if name not in engine.methods)  # one message for the block is enough
    if (method := context.planned.method) in lacking:
        context.refuse(method, *engine.unsupported.get(method, (f"{engine.title} has no `{method}`", "")))
    for key, origin in context.stage.origins.items():
        if origin.kind in ("auto", "default") or key in PLANNED or key in engine.lowered:
            continue
        if key.startswith(tuple(f"{block}." for block in (*catalog.known_engines(), *_OPEN, *lacking))):
            continue
        entry = known.get(key)
        rule = _rule(entry) if entry is not None else None
        if entry is not None and (rule in rules if rule else _written(entry)):
            continue
        if context.get(key) in (None, [], False) or context.name(key) in ("auto", "none", "ignore", "never"):
            continue
        unknown = f"`{key}` cannot be compiled for {engine.title} {context.versions.of()} yet"
        why, help = engine.unsupported.get(key, (unknown, ""))
        context.refuse(key, why, help)


def _rule(entry: Entry) -> str | None:
    """The function that lowers a word, if it is not the table."""
    found: str | None = entry.get("rule") or entry.get("by")
    return found


def _written(entry: Entry) -> bool:
    return any("." not in to and to != "own" for to in entry["to"]) or any(to.startswith("env.") for to in entry["to"])


def params(context: StageContext, kind: str, only: frozenset[str] | None = None) -> Params:
    """Parameters of every word with a value that has no rule of its own."""
    found: Params = {}
    for key, entry in entries(context.engine.name, kind):
        if _rule(entry) or (only is not None and key not in only):
            continue
        if key.startswith("generate.") and not context.is_explicit(key):
            continue  # means nothing while only losses are computed
        value = context.get(key)
        if value is not None:
            found |= _apply(context, key, entry, value)
    return found


def environment(context: StageContext) -> dict[str, Any]:
    """Environment variables that words stand for, and those of the `env { }` block."""
    found: dict[str, Any] = {}
    for key, entry in entries(context.engine.name, context.stage.kind):
        for to in entry["to"]:
            if to.startswith("env.") and not _rule(entry) and context.is_explicit(key):
                name, _, function = to.removeprefix("env.").partition(":")
                found[name] = str(_converted(context.get(key), function or "csv"))
    for name, value in context.stage.settings.inside("env").items():
        found[name] = value if isinstance(value, Secret) else str(plain(value))
    return found


def _apply(context: StageContext, key: str, entry: Entry, value: Any) -> Params:
    if isinstance(value, Term) and value.name in entry.get("members", ()):
        return _member(context, key, entry, value)
    if isinstance(value, Term) and value.options and _written(entry):  # else the word itself was refused
        context.refuse(key, f"{context.engine.title} takes no options for `{value.name}`")
    name = value.name if isinstance(value, Term) else None
    if name is not None and not _knows(entry, key, name):
        known = dict.fromkeys((*entry.get("members", ()), *entry.get("map", ())))
        context.refuse(
            key, f"{context.engine.title} {context.versions.of()} has no `{name}`", f"one of: {', '.join(known)}"
        )
        return {}
    if name is not None and entry.get("map", {}).get(name) == "null":
        return {}
    if name is not None and "map" in entry:
        value = entry["map"].get(name, name)
    found = {}
    for to in entry["to"]:
        target, _, function = to.partition(":")
        if "." not in target and target != "own":
            found[target] = _converted(value, function)
            break  # the others are told by `members`, or belong to another file
    return found


def _knows(entry: Entry, key: str, name: str) -> bool:
    """Whether the engine has the member: it is listed, or the list is open (optimizers, templates)."""
    listed = (*entry.get("members", ()), *entry.get("map", ()))
    return not listed or name in listed or key in _LISTED


def _member(context: StageContext, key: str, entry: Entry, value: Term) -> Params:
    found: Params = {}
    for text in entry.get("set", {}).get(value.name, ()):
        name, _, given = text.partition("=")
        found[name] = json.loads(given) if given in ("true", "false") else given
    known = entry.get("opts", {}).get(value.name, {})
    for option, given in value.options.items():
        if option not in known:
            context.refuse(key, f"{context.engine.title} has no `{option}` of `{value.name}`")
        else:
            found[known[option]] = _option(entry.get("values", {}).get(value.name, {}), option, given)
    return found


def _option(values: Mapping[str, Any], option: str, given: Any) -> Any:
    """An option's value as the engine has it; `values` are the engine's names where they differ."""
    if isinstance(given, str) and option in _PATHS:
        return seen_from_run(given)
    if isinstance(given, Term):
        return values.get(given.name, given.name)
    return _converted(given, "csv" if isinstance(given, list | tuple) else "")


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
    """A value as YAML has it."""
    if isinstance(value, Term):
        return value.name
    if isinstance(value, Amount):
        return value.number if value.unit in ("share", "rate") else int(value.number)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
