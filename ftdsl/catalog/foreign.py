"""Names of other tools and versions for settings of a recipe: PEFT's, TRL's, transformers', LLaMA-Factory's own.

For recipes and other files: data/misnamed.toml (names that no version has), data/changes.toml (renamed and removed
parameters), the engine's parameters, and the inverse of the overlay (parameter -> key).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.changes import Change, replacement
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.record import frozen

ENGINE = vocabulary().block("file").keys["engine"].auto
"""The default engine, whose parameters these are."""
OLD = ("transformers", ENGINE)


@frozen
class Meant:
    """The meaning of a name: a parameter of the engine, with a value if the name implies one; or only a key.

    why: the origin of the name; change: the replacement, if it is a parameter of an older version.
    """

    parameter: str = ""
    value: Any = None
    word: str = ""
    why: str = ""
    change: Change | None = None


@lru_cache(maxsize=1024)
def meant(name: str) -> Meant | None:
    """The meaning of a name; None if it is unknown."""
    if (entry := catalog.misnamed().get(name)) is not None:
        return Meant(entry.get("parameter", ""), entry.get("value"), entry.get("word", ""), entry["why"])
    if catalog.parameter_status(ENGINE, name) is not None:
        return Meant(name, why="LLaMA-Factory's name")
    change = next((successor for package in OLD if (successor := replacement(package, name))), None)
    return Meant(change.new, why=change.why or change.drop or change.hand, change=change) if change else None


@cache
def _deciding_keys() -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Parameter -> the key that sets it, and its entry in the overlay."""
    deciding: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for block, entries in catalog.overlay(ENGINE).items():
        for entry in () if block.startswith("_") else entries.values():
            for parameter in catalog.parameters_of(entry):
                known = catalog.parameter_status(ENGINE, parameter)
                if known is not None and parameter not in deciding:
                    deciding[parameter] = (known.word, entry)
    return deciding


def parameter_status(parameter: str) -> catalog.ParameterStatus | None:
    """How a recipe sets a parameter of the engine: by a key, by passthrough, derived, or without effect."""
    return catalog.parameter_status(ENGINE, parameter)


def by_rule(parameter: str) -> bool:
    """Whether a function of the overlay computes the parameter, which has no inverse here."""
    return "rule" in _deciding_keys().get(parameter, ("", {}))[1]


def word_of(parameter: str) -> str:
    """The dotted key that sets a parameter; "" if there is none."""
    return template_of(parameter).partition(" = ")[0] or _deciding_keys().get(parameter, ("", {}))[0]


def template_of(parameter: str) -> str:
    """The template of a parameter in data/written.toml, such as `duration = {value} epochs`; else ""."""
    return str(catalog.written()["write"].get(parameter, ""))


def chosen(parameter: str, value: str) -> str:
    """The setting for a parameter with a value that means one member: `lora.variant = dora` for `use_dora: true`; else ""."""
    word, entry = _deciding_keys().get(parameter, ("", {}))
    for member, texts in entry.get("set", {}).items():
        if f"{parameter}={value}" in texts:
            return f"{word} = {member}"
    return ""


def converted(parameter: str, value: str) -> tuple[str, str]:
    """(the overlay's conversion, value): (`csv`, …), (`not`, …), ("", member)."""
    _, entry = _deciding_keys().get(parameter, ("", {}))
    for member, mapped in entry.get("map", {}).items():
        if str(mapped) == value:
            return "", str(member)
    how = next((to.partition(":")[2] for to in entry.get("to", ()) if to.partition(":")[0] == parameter), "")
    return how, value


def instead_of(parameter: str, value: str) -> str:
    """What to write for a value that another parameter means too (`stage: orpo`); "" if it is unknown."""
    return str(catalog.written().get("instead", {}).get(parameter, {}).get(value, ""))


def value_of(parameter: str, value: str) -> str:
    """The engine's name of a value known under another name; "" if it is unknown."""
    return str(catalog.written()["values"].get(parameter, {}).get(value, ""))
