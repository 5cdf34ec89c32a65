"""What a smoke run leaves is no result: it must not come back as one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ftdsl.language.values import Term
from ftdsl.recipe.recipe import Recipe
from ftdsl.session import Files, Session

MARK = "SMOKE_TEST.txt"
"""The file in every stage and model of a smoke run (ftdsl/runtime/report.py writes it)."""

FLAG = "ftdsl_smoke"
"""What a toy's config.json says, wherever it is copied (ftdsl/runtime/scratch.py writes it)."""

_ABOVE = 3
"""Folders above a path that are looked at: `result/checkpoint-2` lies in a stage's folder."""


def made_by_smoke(recipe: Recipe, session: Session) -> None:
    """A toy trained for four steps, or its few rows, named as a model, an adapter, a checkpoint or data."""
    for stage in recipe.stages:
        for key, value in stage.settings.values.items():
            for path in _paths(value):
                if _marked(recipe.folder / path, session.files):
                    text = f"`{path}` was made by a smoke run: a toy, to try a recipe"
                    help = "name the real one; a real run of that recipe (without --smoke) makes it"
                    session.sink.error("FT954", text, stage.spans.get(key, stage.span), help=help)


def _paths(value: Any) -> Iterator[str]:
    """Every path that a value names."""
    if isinstance(value, Term):
        path = value.options.get("path")
        if value.name == "file" and isinstance(path, str) and "://" not in path:
            yield path
        for option in value.options.values():
            yield from _paths(option)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)


def _marked(path: Path, files: Files) -> bool:
    folders = [path, *list(path.parents)[:_ABOVE]]
    if any(files.exists(folder / MARK) for folder in folders):
        return True
    parts = path.parts
    if any(folder == "runs" and run.endswith(".smoke") for folder, run in pairwise(parts)):
        return True
    try:
        return bool(files.json(path / "config.json").get(FLAG))
    except (OSError, ValueError, AttributeError):
        return False
