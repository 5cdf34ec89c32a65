"""The recipe a run was made by, found from any path inside of the run's folder."""

from __future__ import annotations

from pathlib import Path

from ftdsl.language.resolve.resolve import Options
from ftdsl.record import frozen
from ftdsl.run.project import OWNER, from_here
from ftdsl.session import read_json

DEPTH = 6
"""Folders above a path that are looked at: runs/NAME/ID/STAGE/result/checkpoint-5."""


@frozen
class RunOrigin:
    """recipe: its path; options: those the run was started with; folder: the run's."""

    recipe: Path
    options: Options
    folder: Path


def recipe_of(path: Path) -> RunOrigin | None:
    """The recipe of the run that a path belongs to; None where it belongs to none, or the recipe is gone."""
    whole = path.resolve()
    for folder in [whole, *whole.parents][:DEPTH]:
        if not (folder.parent / OWNER).is_file() or folder.parent.parent.name != "runs":
            continue
        try:
            owner = read_json(folder.parent / OWNER)
            profiles, sets, params = (tuple(map(str, part)) for part in owner["options"])
            recipe = folder.parent.parent.parent / str(owner["recipe"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not recipe.is_file():
            return None
        return RunOrigin(from_here(recipe), Options(profiles, sets, params), folder)
    return None
