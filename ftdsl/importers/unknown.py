"""Parameters the engine does not have: what was probably meant, and what it should be.

The names are data: flags of other tools and the usual slips (catalog/data/misnamed.toml), and what versions before had
(catalog/data/changes.toml).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ftdsl import catalog
from ftdsl.catalog import foreign
from ftdsl.catalog.changes import Change, replacement
from ftdsl.diagnostics.suggest import closest
from ftdsl.importers.draft import StageDraft
from ftdsl.importers.values import whole
from ftdsl.importers.write import key_at
from ftdsl.language.types import parse_type
from ftdsl.language.values import Term
from ftdsl.lint.config import Config, Setting
from ftdsl.record import replace


def renamed(config: Config) -> Config:
    """Parameters under a wrong name, put under the right one where that is not given too."""
    settings = {name: _known_value(name, setting) for name, setting in config.settings.items()}
    if (loss := ALGORITHMS.get(str(config.value("stage")))) is not None:
        at = settings["stage"]
        settings["stage"] = replace(at, value="dpo")
        settings.setdefault("pref_loss", Setting("pref_loss", loss, at.word, at.span, at.key))
    for name, setting in config.settings.items():
        if catalog.parameter_status(config.engine, name):
            continue
        for target, value in meant(name, setting.value).items():
            if target not in settings and "." not in target:
                settings[target] = Setting(target, value, setting.word, setting.span, setting.key)
    return replace(config, settings=settings)


ALGORITHMS = {"orpo": "orpo", "simpo": "simpo"}
"""Names of preference losses that people write as a stage -> `pref_loss` of `stage: dpo`."""


def _known_value(name: str, setting: Setting) -> Setting:
    """The setting with the engine's name of a value that is known under another one (`template: qwen2`)."""
    if name in ("stage", "finetuning_type", "export_device") or not isinstance(setting.value, str | bool):
        return setting
    value = foreign.value_of(name, str(setting.value))
    return replace(setting, value=value) if value else setting


def other_values(config: Config) -> Iterator[tuple[Setting, Any]]:
    """Settings that `renamed` gives another value, with that value."""
    for name, setting in config.settings.items():
        taken = _known_value(name, setting)
        if taken is not setting:
            yield setting, taken.value


def fitting(config: Config) -> tuple[Config, list[Setting]]:
    """Parameters with values of their type (`"1e-4"` becomes a number), and those whose values no parameter of that type
    can have."""
    schema = catalog.engine_schema(config.engine)
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


def meant(name: str, value: Any) -> dict[str, Any]:
    """What a wrong name with a value should have been, as far as that is parameters."""
    other = catalog.misnamed().get(name)
    if other is not None:
        return {other["parameter"]: other.get("value", value)} if "parameter" in other else {}
    change = _change(name)
    return (change.becomes(value) or {}) if change else {}


def _change(name: str) -> Change | None:
    return replacement("transformers", name) or replacement("llamafactory", name)


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
        other = catalog.misnamed().get(name, {})
        if "word" in other and catalog.parameter_status("llamafactory", name) is None:
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
    text: str = catalog.misnamed()[name]["value"]
    return text.replace("{value}", str(draft.raw(name)))


def name_them(draft: StageDraft) -> None:
    """A note on each name the engine does not have."""
    for name in draft.config.settings:
        if catalog.parameter_status("llamafactory", name) is None and (
            name not in draft.used or name in catalog.misnamed()
        ):
            _name(draft, name)


def _name(draft: StageDraft, name: str) -> None:
    flag = "--" if draft.config.form == "command" else ""
    other = catalog.misnamed().get(name)
    strategy = draft.values.get("parallel.strategy")
    if isinstance(strategy, Term) and strategy.name == "megatron" and name in catalog.passthrough_schema("megatron"):
        draft.used.add(name)
        draft.values[f"megatron.{name}"] = draft.raw(name)
    elif other is None and (change := _change(name)) is not None:
        _old(draft, name, change)
    elif other is None:
        guess = closest(name, list(catalog.engine_schema("llamafactory")))
        hint = f"; `{flag}{guess}` is the nearest" if guess else ""
        draft.note(name, f"LLaMA-Factory has no such parameter{hint}")
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
