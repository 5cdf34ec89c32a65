"""Where results go: what lies there already."""

from __future__ import annotations

from ftdsl.recipe.recipe import Recipe
from ftdsl.session import Session


def destination_is_a_folder(recipe: Recipe, session: Session) -> None:
    """A result is a folder: a file of that name, or a file where a folder above should be, would end the stage at its end."""
    for stage in recipe.stages:
        written = stage.settings.get("to")
        if not isinstance(written, str):
            continue
        place = recipe.folder / written
        above = [folder for folder in place.parents if folder.is_relative_to(recipe.folder)]
        file = next((one for one in (place, *above) if session.files.is_file(one)), None)
        if file is not None:
            text = (
                f"`{file.relative_to(recipe.folder).as_posix() if file != place else written}` is a file, not a folder"
            )
            help = "name another folder in `to`, or move the file away"
            session.sink.error("FT956", text, stage.spans.get("to", stage.span), help=help)
