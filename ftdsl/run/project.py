"""A project: the folders of its runs and builds, whatever the working directory, and the recipe each belongs to.

The root is the folder of `ftc.toml` above a recipe, else the repository's, else the recipe's own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

from ftdsl.language.resolve.resolve import Options
from ftdsl.recipe.rules.destinations import RUNS_OWNER
from ftdsl.session import read_json
from ftdsl.storage import write_file
from ftdsl.targets.manifest import NAME as MANIFEST
from ftdsl.targets.write import INPUTS

SETTINGS = "ftc.toml"
OWNER = RUNS_OWNER
"""In a folder of runs: whose they are."""
LONGEST = 60


def root_of(recipe: Path) -> Path:
    """The root of a recipe's project."""
    folder = recipe.resolve().parent
    above = (folder, *folder.parents)
    for mark in (SETTINGS, ".git"):
        if root := next((parent for parent in above if (parent / mark).exists()), None):
            return root
    return folder


def from_here(path: Path) -> Path:
    """A path as it is typed where `ftc` was called."""
    return Path(os.path.relpath(path))


def home_of(
    recipe: Path, name: str, options: Options | None = None, *, smoke: bool = False, claim: bool = False
) -> Path:
    """The folder of a recipe's runs under these options: `runs/<name>`, with what sets a variant apart, and a
    number where another recipe of the project has that name. claim: make it this recipe's.
    """
    root = root_of(recipe)
    owner = _owner(recipe, root, options)
    variant = _variant(options)
    base = f"{name}{variant}.smoke" if smoke else f"{name}{variant}"
    for folder in _numbered(root / "runs" / base):
        known = _read(folder / OWNER)
        if known == owner or known is None:
            if claim and known is None:
                write_file(folder / OWNER, json.dumps(owner, ensure_ascii=False).encode(), root=folder.parent)
            return from_here(folder)
    raise AssertionError("there is always another number")


STUDY = "study"
"""In a folder of runs: those of a study's trials, each a folder of runs of its own."""


def study_folder(home: Path, *, fresh: bool = False) -> Path:
    """The folder of a recipe's newest study; of a new one with `fresh`, or where there is none."""
    number = 1
    while (home / _study_name(number + 1)).is_dir():
        number += 1
    here = home / _study_name(number)
    return home / _study_name(number + 1) if fresh and here.is_dir() else here


def _study_name(number: int) -> str:
    return STUDY if number == 1 else f"{STUDY}-{number}"


def claim_trial(home: Path, above: Path) -> None:
    """Make a folder of runs that of a trial of the recipe whose runs are in `above`."""
    owner = _read(above / OWNER)
    known = owner if isinstance(owner, dict) else {}
    home.mkdir(parents=True, exist_ok=True)
    write_file(home / OWNER, json.dumps({**known, STUDY: above.name}, ensure_ascii=False).encode(), root=above.parent)


def is_trial(home: Path) -> bool:
    """Whether a folder of runs is a trial's."""
    owner = _read(home / OWNER)
    return isinstance(owner, dict) and STUDY in owner


def siblings(home: Path) -> list[Path]:
    """The folders of the same recipe's other variants; of a trial the recipe's own folder and the study's other trials."""
    owner = _read(home / OWNER)
    if not isinstance(owner, dict) or not home.parent.is_dir():
        return []
    if STUDY in owner:
        return [home.parent.parent, *(other for other in _trials(home.parent.parent) if other.name != home.name)]
    folders = sorted(other for other in home.parent.iterdir() if other.is_dir() and other.name != home.name)
    owners = ((other, _read(other / OWNER)) for other in folders)
    same = [other for other, known in owners if isinstance(known, dict) and known.get("recipe") == owner.get("recipe")]
    return [*_trials(home), *same]


def _trials(home: Path) -> list[Path]:
    """Folders of the trials of a recipe's studies, newest first."""
    return sorted((mark.parent for mark in home.glob(f"{STUDY}*/[0-9]*/{OWNER}")), reverse=True)


def build_of(recipe: Path, name: str) -> Path:
    """The folder a recipe is compiled into: `build/<name>`, with a number where another recipe of the project has that name."""
    folder = recipe.resolve().parent
    for candidate in _numbered(root_of(recipe) / "build" / name):
        manifest = _read(candidate / MANIFEST)
        other = manifest.get("recipe") if isinstance(manifest, dict) else None
        linked = (candidate / INPUTS).resolve() == folder if (candidate / INPUTS).is_symlink() else True
        if other in (None, recipe.name) and linked:
            return from_here(candidate)
    raise AssertionError("there is always another number")


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in count(2))


def _owner(recipe: Path, root: Path, options: Options | None) -> dict[str, object]:
    parts = [[], [], []] if options is None else [list(options.profiles), list(options.sets), list(options.params)]
    return {"recipe": recipe.resolve().relative_to(root).as_posix(), "options": parts}


def _variant(options: Options | None) -> str:
    """`@laptop`, `@optim.lr=1e-4`: what sets a variant apart, as a name; where that is long, its beginning and a digest."""
    parts = [*options.profiles, *options.sets, *options.params] if options else []
    if not parts:
        return ""
    whole = "+".join(parts)
    text = re.sub(r"[^\w.=+-]+", "-", whole)
    if text != whole or len(text) > LONGEST:
        text = f"{text[: LONGEST - 9]}-{sha256(whole.encode()).hexdigest()[:8]}"
    return f"@{text}"


def _read(path: Path) -> object:
    try:
        content: object = read_json(path)
    except (OSError, ValueError):
        return None
    return content
