"""Which toy stands in for which model: the same architecture, from a real config.json where there is one, else from the name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Recipe, Stage, Where
from ftdsl.record import frozen
from ftdsl.session import Files

HIDDEN, LAYERS, VOCAB = 64, 2, 2048
PLAIN = "llama"
"""Stands in where an architecture is not known, or brings code of its own."""

_PACKED = re.compile(r"gptq|awq|aqlm|bnb-?4bit|int[48]\b|[48]bit|fp8|mxfp4", re.IGNORECASE)


@frozen
class Toy:
    """`term` is what the stage starts from now; `now` says it in words."""

    term: Term
    now: str


def name_of(base: Where) -> str:
    """A model as a person calls it."""
    if isinstance(base, StageRef):
        return base.stage
    return str(base.options.get("id") or base.options.get("path") or base.name)


def toy_of(base: Where, recipe: Recipe, stage: Stage, files: Files) -> Toy:
    """The stand-in for a model."""
    name, like = name_of(base), base.options.get("like") if isinstance(base, Term) else None
    place, config = _local(base, recipe, files)
    said = str(like.options.get("id", "") if isinstance(like, Term) else like or name)
    architecture, note = _architecture(said, config)
    options: dict[str, Any] = {"architecture": architecture, "vocab": VOCAB, "toy": True}
    if place:
        options["place"] = place
    family = catalog.template_for_model(recipe.engine_of(stage), said, recipe.versions_of(stage).facts())
    options["templates"] = [family] if family else _templates(base, recipe)
    notes = [note] if note else []
    if config.get("quantization_config") or _PACKED.search(name):
        notes.append("not quantised beforehand")
    now = "; ".join([f"{architecture} of {LAYERS} layers, its tokenizer trained on the recipe's data", *notes])
    return Toy(Term("scratch", options), now)


def _local(base: Where, recipe: Recipe, files: Files) -> tuple[str, dict[str, Any]]:
    """The folder of a model that lies on this machine, and its config.json; "" and nothing for others."""
    path = base.options.get("path") if isinstance(base, Term) and base.name == "file" else None
    if not isinstance(path, str) or "://" in path:
        return "", {}
    try:
        found = files.json(Path(recipe.folder / path) / "config.json")
    except (OSError, ValueError):
        return "", {}
    return (path, found) if isinstance(found, dict) else ("", {})


def _architecture(name: str, config: dict[str, Any]) -> tuple[str, str]:
    """transformers' model_type, and what is to be said about it."""
    facts = catalog.smoke()
    known = set(facts["families"].values())
    real = str(config.get("model_type", ""))
    if real in facts["text_sides"]:
        return facts["text_sides"][real], f"only the side of {real} that writes"
    if real in known:
        return real, ""
    found = next((kind for pattern, kind in facts["families"].items() if re.search(pattern, name.lower())), "")
    if real and real != found:
        return found or PLAIN, f"{real} cannot be built without its own code"
    if not found:
        return PLAIN, "its architecture is not known here"
    seeing = re.search(r"\bvl\b|-vl|vision|llava|omni|audio|pixtral|-ocr|[0-9]v\b|internvl", name.lower())
    return found, "only the side that writes: it has no eyes and ears" if seeing else ""


def _templates(base: Where, recipe: Recipe) -> list[str]:
    """Of a model whose family is not known: those the recipe trains it with, taken on trust."""
    named: Iterable[str] = (
        stage.settings.name("template")
        for stage in recipe.stages
        if stage.start is not None and stage.start.base == base
    )
    return sorted({name for name in named if name and name not in recipe.templates})
