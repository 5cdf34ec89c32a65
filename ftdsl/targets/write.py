"""Artifacts to disk. Owns only what its own manifest lists; never leaves half a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ftdsl.session import Session
from ftdsl.targets.manifest import NAME

INPUTS = "inputs"


def write(folder: Path, files: dict[str, bytes], recipe_folder: Path, session: Session) -> bool:
    """Write the artifacts, link `inputs` to the recipe's folder, remove what an earlier compile left. False: refused.

    Raises: OSError.
    """
    owned = _owned(folder)
    strange = [name for name in files if (folder / name).exists() and name not in owned]
    if strange or ((folder / INPUTS).exists() and not (folder / INPUTS).is_symlink()):
        name = strange[0] if strange else INPUTS
        text = f"`{folder.as_posix()}/{name}` is there already, and `ftc compile` did not write it"
        session.sink.error("FT085", text, None, help="move it away, or compile elsewhere: -o DIR")
        return False
    for name in sorted(owned - files.keys()):
        _remove(folder, name)
    for name, content in files.items():
        if name != NAME:
            write_file(folder / name, content)
    link_inputs(folder, recipe_folder)
    if NAME in files:
        write_file(folder / NAME, files[NAME])
    return True


def write_file(path: Path, content: bytes) -> None:
    """Beside, then renamed. Scripts may be executed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_bytes() == content:
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.chmod(0o755 if path.suffix == ".sh" else 0o644)
    beside.replace(path)


def link_inputs(folder: Path, recipe_folder: Path) -> None:
    """`inputs` -> the recipe's folder, relative, so that the pair can move together."""
    target = os.path.relpath(recipe_folder.resolve(), folder.resolve())
    link = folder / INPUTS
    if link.is_symlink():
        if str(link.readlink()) == target:
            return
        link.unlink()
    link.symlink_to(target)


def _owned(folder: Path) -> set[str]:
    """What the manifest of an earlier compile lists."""
    try:
        listed = json.loads((folder / NAME).read_bytes())["artifacts"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    inside = (str(name) for name in listed if ".." not in Path(name).parts and not Path(name).is_absolute())
    return {*inside, NAME}


def _remove(folder: Path, name: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == folder or any(parent.iterdir()):
            return
        parent.rmdir()
