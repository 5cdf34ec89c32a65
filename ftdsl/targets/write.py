"""Writes artifacts to disk. Replaces only files that its own manifest lists, never outside the build folder, never partially."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ftdsl.session import Session
from ftdsl.storage import (
    NotWrittenError,
    is_inside,
    make_folder,
    read_file,
    remove_files,
    write_file,
    write_files,
    write_link,
)
from ftdsl.targets.manifest import NAME

INPUTS = "inputs"


def write(
    folder: Path, files: dict[str, bytes], recipe_folder: Path, session: Session, root: Path | None = None
) -> bool:
    """Write the artifacts, link `inputs` to the recipe's folder, remove outdated files of an earlier compile. False: refused,
    with the reason in the sink.

    root: links below it are not followed (default: `folder`, which the user named).

    Raises: OSError.
    """
    root = folder if root is None else root
    try:
        make_folder(root, folder.relative_to(root).as_posix())
        owned = _owned(folder)
        strange = [name for name in files if os.path.lexists(folder / name) and name not in owned]
        if strange or (os.path.lexists(folder / INPUTS) and not (folder / INPUTS).is_symlink()):
            name = strange[0] if strange else INPUTS
            text = f"`{folder.as_posix()}/{name}` exists already, and `ftc compile` did not write it"
            session.sink.error("FT085", text, None, help="move it, or compile to another folder: -o DIR")
            return False
        remove_files(folder, sorted(owned - files.keys()))
        write_files(folder, {name: content for name, content in files.items() if name != NAME})
        link_inputs(folder, recipe_folder)
        if NAME in files:
            write_file(folder / NAME, files[NAME])
    except NotWrittenError as error:
        text = f"`{Path(error.filename).as_posix()}` {error.strerror}"
        session.sink.error("FT085", text, None, help="remove it, or compile to another folder: -o DIR")
        return False
    return True


def link_inputs(folder: Path, recipe_folder: Path) -> None:
    """`inputs` -> the recipe's folder, relative, so that the pair can move together. Raises: NotWrittenError, OSError."""
    write_link(folder, INPUTS, os.path.relpath(recipe_folder.resolve(), folder.resolve()))


def _owned(folder: Path) -> set[str]:
    """The files in the folder that the manifest of an earlier compile lists."""
    try:
        listed = json.loads(read_file(folder / NAME))["artifacts"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    names = listed if isinstance(listed, dict | list) else ()
    return {*(name for name in names if isinstance(name, str) and is_inside(name)), NAME}
