"""Names that other tools, or other versions, have for what a recipe says: PEFT's, TRL's, transformers', LLaMA-Factory's own.

One table for recipes and for files: data/misnamed.toml (what no version has), data/changes.toml (what became of parameters),
the engine's parameters themselves, and the overlay read backwards (which word decides a parameter).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.changes import Change, replacement
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.record import frozen

ENGINE = vocabulary().block("file").keys["engine"].auto
"""The engine of a recipe that names none: the names are those of its parameters."""
OLD = ("transformers", ENGINE)


@frozen
class Meant:
    """What a name stands for: a parameter of the engine, and its value where the name itself was one; or a word alone.

    why: where the name comes from; change: what became of it, where it is a parameter of an older version.
    """

    parameter: str = ""
    value: Any = None
    word: str = ""
    why: str = ""
    change: Change | None = None


@cache
def meant(name: str) -> Meant | None:
    """What a name means here; None for one that nobody has."""
    if (entry := catalog.misnamed().get(name)) is not None:
        return Meant(entry.get("parameter", ""), entry.get("value"), entry.get("word", ""), entry["why"])
    if catalog.parameter_status(ENGINE, name) is not None:
        return Meant(name, why="LLaMA-Factory's name")
    change = next((found for package in OLD if (found := replacement(package, name))), None)
    return Meant(change.new, why=change.why or change.drop or change.hand, change=change) if change else None


@cache
def _words() -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Parameter -> the word that decides it, and its entry in the overlay."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for block, entries in catalog.overlay(ENGINE).items():
        for entry in () if block.startswith("_") else entries.values():
            for parameter in catalog.parameters_of(entry):
                known = catalog.parameter_status(ENGINE, parameter)
                if known is not None and parameter not in found:
                    found[parameter] = (known.word, entry)
    return found


def parameter_status(parameter: str) -> catalog.ParameterStatus | None:
    """What becomes of a parameter of the engine: it has a word, is passed through, derived, or dead."""
    return catalog.parameter_status(ENGINE, parameter)


def by_rule(parameter: str) -> bool:
    """Whether the overlay tells a parameter by a function, which nothing here can read backwards."""
    return "rule" in _words().get(parameter, ("", {}))[1]


def word_of(parameter: str) -> str:
    """The dotted key that decides a parameter; "" when none does."""
    return template_of(parameter).partition(" = ")[0] or _words().get(parameter, ("", {}))[0]


def template_of(parameter: str) -> str:
    """`duration = {value} epochs`, where that is written down; else ""."""
    return str(catalog.written()["write"].get(parameter, ""))


def chosen(parameter: str, value: str) -> str:
    """`lora.variant = dora` of a parameter with a value that stands for one member (`use_dora: true`); else ""."""
    word, entry = _words().get(parameter, ("", {}))
    for member, texts in entry.get("set", {}).items():
        if f"{parameter}={value}" in texts:
            return f"{word} = {member}"
    return ""


def converted(parameter: str, value: str) -> tuple[str, str]:
    """How the overlay turns a value, and the value itself where a table tells: (`csv`, …), (`not`, …), ("", member)."""
    _, entry = _words().get(parameter, ("", {}))
    for member, said in entry.get("map", {}).items():
        if str(said) == value:
            return "", str(member)
    how = next((to.partition(":")[2] for to in entry.get("to", ()) if to.partition(":")[0] == parameter), "")
    return how, value


def value_of(parameter: str, value: str) -> str:
    """What a value that is known elsewhere is called by the engine; "" when it is unknown there too."""
    return str(catalog.written()["values"].get(parameter, {}).get(value, ""))
