"""Engines whose command line has a verb for each trainer, with parameters of its own: `trl dpo`.

Such an engine's parameters have the names of fields (`beta`), with a default of their own in each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.history import Fact, schema


def trainers(engine: str) -> Mapping[str, Mapping[str, Any]]:
    """Verb -> the configuration class, the kind of stage and the names of its script; {} for an engine without verbs."""
    by_verb: Mapping[str, Mapping[str, Any]] = catalog.facts("trainers").get(engine, {})
    return by_verb


_SEQ2SEQ = "Seq2SeqTrainingArguments"
"""A class of transformers that no trainer here inherits."""


@lru_cache(maxsize=64)
def trainer_schema(engine: str, trainer: str, version: str = "", transformers: str = "") -> Mapping[str, Fact]:
    """Every parameter of one verb: transformers', those of its class and of the classes that all share, the script's own.
    Versions: by default the newest of the catalogue."""
    version = version or catalog.newest(engine)
    beside = schema("transformers", transformers or catalog.beside_engine(engine, version, "transformers"))
    known = schema(engine, version)
    parameters = {name: fact for name, fact in beside.items() if fact.get("section") != _SEQ2SEQ}
    for owner in (trainers(engine)[trainer]["config"], *catalog.facts("shared_classes")[engine]):
        parameters |= {name.partition(".")[2]: fact for name, fact in known.items() if name.startswith(f"{owner}.")}
    script = catalog.facts("scripts")[engine]
    return parameters | {name: fact for name, fact in script.items() if trainer in fact.get("only", (trainer,))}


@lru_cache(maxsize=64)
def own_parameters(engine: str, trainer: str) -> frozenset[str]:
    """Parameters that a verb has, and not every other."""
    shared = frozenset.intersection(*(frozenset(trainer_schema(engine, name)) for name in trainers(engine)))
    return frozenset(trainer_schema(engine, trainer)) - shared


def trainer_of_kind(engine: str, kind: str) -> str:
    """The verb that does what a stage of a kind does; "" without one."""
    verbs = trainers(engine).items()
    return next((name for name, fact in verbs if kind and kind in (fact["kind"], *fact.get("also", ()))), "")
