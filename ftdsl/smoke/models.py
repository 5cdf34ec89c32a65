"""The toy model for a model: the same architecture, from the model's config.json if it is local, else from its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import ModelRef, Recipe, Stage
from ftdsl.record import frozen
from ftdsl.session import Files

HIDDEN, LAYERS, VOCAB = 64, 2, 2048
PLAIN = "llama"
"""The architecture used where the model's is unknown, or needs code of its own."""

_PACKED = re.compile(r"gptq|awq|aqlm|bnb-?4bit|int[48]\b|[48]bit|fp8|mxfp4", re.IGNORECASE)


@frozen
class Toy:
    """term: the model that the stage starts from now; now: the same as text."""

    term: Term
    now: str


def name_of(base: ModelRef) -> str:
    """The name of a model in messages."""
    if isinstance(base, StageRef):
        return base.stage
    return str(base.options.get("id") or base.options.get("path") or base.name)


def toy_of(base: ModelRef, recipe: Recipe, stage: Stage, files: Files) -> Toy:
    """The toy that replaces a model."""
    name, like = name_of(base), base.options.get("like") if isinstance(base, Term) else None
    folder, config = _local(base, recipe, files)
    real_name = str(like.options.get("id", "") if isinstance(like, Term) else like or name)
    architecture, note = _architecture(real_name, config)
    options: dict[str, Any] = {"architecture": architecture, "vocab": VOCAB, "toy": True}
    if folder:
        options["place"] = folder
    package, _ = catalog.chat_formats()  # an engine without a list of its own takes its texts from there
    version = recipe.versions_of(stage).facts() if recipe.engine_of(stage) == package else ""
    family = catalog.template_for_model(package, real_name, version)
    options["templates"] = [family] if family else _templates(base, recipe)
    notes = [note] if note else []
    if config.get("quantization_config") or _PACKED.search(name):
        notes.append("not quantised")
    now = "; ".join([f"{architecture} with {LAYERS} layers, its tokenizer trained on the recipe's data", *notes])
    return Toy(Term("scratch", options), now)


def _local(base: ModelRef, recipe: Recipe, files: Files) -> tuple[str, dict[str, Any]]:
    """The folder of a local model and its config.json; ("", {}) for others."""
    path = base.options.get("path") if isinstance(base, Term) and base.name == "file" else None
    if not isinstance(path, str) or "://" in path:
        return "", {}
    try:
        config = files.json(Path(recipe.folder / path) / "config.json")
    except (OSError, ValueError):
        return "", {}
    return (path, config) if isinstance(config, dict) else ("", {})


def _architecture(name: str, config: dict[str, Any]) -> tuple[str, str]:
    """(transformers' model_type, a note on how it differs from the model)."""
    facts = catalog.smoke()
    buildable = set(facts["families"].values())
    real = str(config.get("model_type", ""))
    if real in facts["text_sides"]:
        return facts["text_sides"][real], f"only the language model of {real}"
    if real in buildable:
        return real, ""
    guess = next((kind for pattern, kind in facts["families"].items() if re.search(pattern, name.lower())), "")
    if real and real != guess:
        return guess or PLAIN, f"{real} cannot be built without its own code"
    if not guess:
        return PLAIN, "its architecture is not known"
    seeing = re.search(r"\bvl\b|-vl|vision|llava|omni|audio|pixtral|-ocr|[0-9]v\b|internvl", name.lower())
    return guess, "only its language model, without vision and audio" if seeing else ""


def _templates(base: ModelRef, recipe: Recipe) -> list[str]:
    """The templates of a model whose family is unknown: those that the recipe trains it with."""
    named: Iterable[str] = (
        stage.settings.name("template")
        for stage in recipe.stages
        if stage.start is not None and stage.start.base == base
    )
    return sorted({name for name in named if name and name not in recipe.templates})
