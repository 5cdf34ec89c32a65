"""Sizes of a model: from the catalogue, the project's file, a local config.json, or last its name.

`ftc models add NAME` queries the hub once and keeps the answer with its revision next to the recipe; this module uses no
network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftdsl.estimate.architecture import Architecture, NotModelledError
from ftdsl.estimate.config import from_config
from ftdsl.estimate.naming import by_name, guessed
from ftdsl.session import Files

PROJECT_FILE = "ftc.models.json"
"""Next to a recipe: `{"org/name": {"revision": "…", "config": {…}}}`, written by `ftc models add`."""


LIKE = '`like = "org/name"` names a model of the same size'


def hub_folder(env: Mapping[str, str]) -> Path | None:
    """The hub's cache folder (huggingface_hub, constants.py: HF_HUB_CACHE, HF_HOME); None without a home folder."""
    if cache := env.get("HF_HUB_CACHE"):
        return Path(cache)
    if home := env.get("HF_HOME"):
        return Path(home) / "hub"
    return Path(env["HOME"], ".cache", "huggingface", "hub") if env.get("HOME") else None


def sizes_of(name: str, project: Path, files: Files, hub: Path | None = None) -> Architecture:
    """Sizes of a hub id. Raises: NotModelledError if they are unknown, or its config.json is not modelled."""
    if architecture := by_name(name):
        return architecture
    config = project_models(project, files).get(name, {}).get("config") or _cached(name, hub, files)
    if isinstance(config, dict):
        return read_config(config, name)
    if architecture := guessed(name):
        return architecture
    raise NotModelledError(f"the size of {name} is unknown; `ftc models add {name}` queries the hub, {LIKE}")


def sizes_in_folder(folder: Path, name: str, files: Files) -> Architecture:
    """Sizes from the config.json in a folder, else from the folder's name. Raises: NotModelledError."""
    try:
        config = files.json(folder / "config.json")
    except (OSError, ValueError):
        if why := files.trouble(folder / "config.json"):
            raise NotModelledError(f"the config.json of {name} cannot be read: {why}; {LIKE}") from None
        if architecture := by_name(folder.name) or guessed(folder.name):
            return architecture
        raise NotModelledError(f"{name} has no local config.json; {LIKE}") from None
    return read_config(config, name)


def read_config(config: Any, name: str) -> Architecture:
    """Sizes from a config.json. Raises: NotModelledError, with what is missing or wrong."""
    if not isinstance(config, dict):
        raise NotModelledError(f"the config.json of {name} is not an object")
    try:
        return from_config(config, name)
    except NotModelledError:
        raise
    except (TypeError, ValueError, ZeroDivisionError, KeyError, AttributeError):
        raise NotModelledError(f"the config.json of {name} has sizes that are not numbers") from None


def project_models(project: Path, files: Files) -> dict[str, dict[str, Any]]:
    """The entries of the project's file; {} if it is missing or unreadable."""
    try:
        models = files.json(project / PROJECT_FILE)
    except (OSError, ValueError):
        return {}
    return (
        {name: entry for name, entry in models.items() if isinstance(entry, dict)} if isinstance(models, dict) else {}
    )


def _cached(name: str, hub: Path | None, files: Files) -> Any:
    """The config.json in the hub's cache, of the revision `main`, else of any."""
    if hub is None or "/" not in name:
        return None
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshots = folder / "snapshots"
    try:
        revision = files.text(folder / "refs" / "main").strip()
    except (OSError, UnicodeDecodeError):
        revision = ""
    paths = [snapshots / revision / "config.json"] if revision else []
    paths += files.glob(snapshots, "*/config.json") if files.is_dir(snapshots) else []
    for path in paths:
        try:
            return files.json(path)
        except (OSError, ValueError):
            continue
    return None
