"""Results of smoke runs must not be used as models or data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ftdsl.language.values import Term
from ftdsl.recipe.recipe import Recipe
from ftdsl.session import Files, Session

MARK = "SMOKE_TEST.txt"
"""The marker file in every stage and model of a smoke run (written by ftdsl/runtime/report.py)."""

FLAG = "ftdsl_smoke"
"""The key in the config.json of a toy model, which is copied with it (written by ftdsl/runtime/scratch.py)."""

_ABOVE = 3
"""Number of parent folders to search for the marker, such as those of `result/checkpoint-2`."""


def made_by_smoke(recipe: Recipe, session: Session) -> None:
    """Report a model, adapter, checkpoint or data of a smoke run: a toy model trained for a few steps, or a few rows."""
    for stage in recipe.stages:
        for key, value in stage.settings.values.items():
            for path in _paths(value):
                if _marked(recipe.folder / path, session.files):
                    text = f"`{path}` is the result of a smoke run"
                    help = "use the result of a real run (without `--smoke`)"
                    session.sink.error("FT954", text, stage.spans.get(key, stage.span), help=help)


def _paths(value: Any) -> Iterator[str]:
    """All paths in a value."""
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
