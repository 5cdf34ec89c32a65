"""Parameters the engine does not have: what was probably meant, and what it should be.

The names are data: flags of other tools and the usual slips (catalog/data/misnamed.toml), and what versions before had
(catalog/data/changes.toml).
"""

from __future__ import annotations

import math
import re
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.changes import Change, replacement
from ftdsl.diagnostics.suggest import closest
from ftdsl.engines import registry
from ftdsl.importers.draft import StageDraft
from ftdsl.importers.values import whole
from ftdsl.importers.write import key_at
from ftdsl.language.types import parse_type
from ftdsl.language.values import Term
from ftdsl.lint.config import Config, Setting
from ftdsl.record import replace


def renamed(config: Config) -> Config:
    """Parameters under a wrong name, put under the right one where that is not given too."""
    settings = dict(config.settings)
    for name, setting in config.settings.items():
        if is_parameter(config, name):
            continue
        for target, value in meant(config.engine, name, setting.value).items():
            if target not in settings and "." not in target:
                settings[target] = Setting(target, value, setting.word, setting.span, setting.key)
    return replace(config, settings=settings)


def is_parameter(config: Config, name: str) -> bool:
    """Whether the engine has a parameter of that name; a trainer has only its own."""
    return name in config.schema if config.trainer else catalog.parameter_status(config.engine, name) is not None


def title(engine: str) -> str:
    """`LLaMA-Factory`."""
    registered = registry.get(engine)
    return registered.title if registered else engine


def fitting(config: Config) -> tuple[Config, list[Setting]]:
    """Parameters with values of their type (`"1e-4"` becomes a number), and those whose values no parameter of that type
    can have."""
    schema = config.schema
    settings: dict[str, Setting] = {}
    wrong: list[Setting] = []
    for name, setting in config.settings.items():
        try:
            value = _typed(setting.value, str(schema[name]["type"])) if name in schema else setting.value
        except (TypeError, ValueError):
            wrong.append(setting)
        else:
            settings[name] = setting if value is setting.value else replace(setting, value=value)
    return replace(config, settings=settings), wrong


def _typed(value: Any, kind: str) -> Any:
    """Raises: TypeError, ValueError."""
    types = set(re.findall(r"[A-Za-z]+", kind)) - {"None"}
    if value is None or (isinstance(value, dict) and "dict" in types):
        return value
    if types and types <= {"int", "float", "bool"}:
        if isinstance(value, str) and value.lower() in _SWITCHES:
            value = _SWITCHES[value.lower()]
        if isinstance(value, bool):
            if "bool" not in types:
                raise TypeError(kind)
            return value
        number = float(value)
        if not math.isfinite(number) or (types == {"int"} and number != int(number)):
            raise ValueError(value)
        return number if isinstance(value, str) else value
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict | list) for item in value)):
        raise TypeError(kind)
    return value


_SWITCHES = {"true": True, "yes": True, "false": False, "no": False}


def meant(engine: str, name: str, value: Any) -> dict[str, Any]:
    """What a wrong name with a value should have been, as far as that is parameters."""
    other = catalog.misnamed(engine).get(name)
    if other is not None:
        return {other["parameter"]: other.get("value", value)} if "parameter" in other else {}
    change = _change(engine, name)
    return (change.becomes(value) or {}) if change else {}


def _change(engine: str, name: str) -> Change | None:
    return replacement("transformers", name) or replacement(engine, name)


def _old(draft: StageDraft, name: str, change: Change) -> None:
    """A parameter that versions before had."""
    instead = change.becomes(draft.raw(name))
    successors = ", ".join(f"`{target}: {value}`" for target, value in (instead or {}).items())
    if instead and any("." in target for target in instead):
        draft.note(name, f"moved to {successors}, a table of its own, which a recipe cannot set")
    elif successors:
        draft.note(name, f"gone ({change.why}); taken as {successors}", carried=True)
    else:
        draft.note(name, f"gone: {change.drop or change.hand or change.why}")


def recipe_keys_first(draft: StageDraft) -> None:
    """Names that only a key of the recipe can express (`--deepspeed_stage 3`)."""
    for name in draft.config.settings:
        other = catalog.misnamed(draft.engine).get(name, {})
        if "word" in other and name not in draft.config.schema:
            value = _text_of(draft, name)
            kind = parse_type(key_at(draft.kind, other["word"]).type).name
            if other["word"] == "track.project":
                draft.reasons["project"] = f"set by `{name}`"
            if kind == "int":
                if (number := whole(value)) is not None:
                    draft.set(other["word"], number)
                continue
            draft.set(other["word"], value if kind in ("text", "path") else Term(value))


def _text_of(draft: StageDraft, name: str) -> str:
    text: str = catalog.misnamed(draft.engine)[name]["value"]
    return text.replace("{value}", str(draft.raw(name)))


def name_them(draft: StageDraft) -> None:
    """A note on each name the engine does not have."""
    for name in draft.config.settings:
        if not is_parameter(draft.config, name) and (name not in draft.used or name in catalog.misnamed(draft.engine)):
            _name(draft, name)


def _name(draft: StageDraft, name: str) -> None:
    flag = "--" if draft.config.form == "command" else ""
    other = catalog.misnamed(draft.engine).get(name)
    strategy = draft.values.get("parallel.strategy")
    if isinstance(strategy, Term) and strategy.name == "megatron" and name in catalog.passthrough_schema("megatron"):
        draft.used.add(name)
        draft.values[f"megatron.{name}"] = draft.raw(name)
    elif other is None and (change := _change(draft.engine, name)) is not None:
        _old(draft, name, change)
    elif other is None:
        guess = closest(name, list(draft.config.schema))
        hint = f"; `{flag}{guess}` is the nearest" if guess else ""
        draft.note(name, f"{title(draft.engine)} has no such parameter{hint}")
    elif "word" in other:
        draft.reasons["deepspeed"] = f"set by `{name}`"
        draft.note(name, f"{other['why']}; taken as `{other['word']} = {_text_of(draft, name)}`", carried=True)
    elif "parameter" in other:
        target = other["parameter"]
        value = f" {other['value']}" if "value" in other else ""
        put = draft.setting(target)
        if put is None or not put.is_explicit:
            draft.note(name, f"{other['why']}; `{draft.raw(name)}` is no value of `{flag}{target}`")
            return
        taken = put.word == (draft.setting(name) or draft.config.at(name)).word
        what = "taken as" if taken else "dropped beside"
        draft.note(name, f"{other['why']}; {what} `{flag}{target}{value}`", carried=taken)
    else:
        draft.note(name, other["why"])
