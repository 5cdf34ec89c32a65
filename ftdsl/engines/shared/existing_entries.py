"""Entries of a dataset_info.json that is there, as the rules about data sets see them: the file, its first rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftdsl.language.values import Term
from ftdsl.lint.config import Dataset, Setting
from ftdsl.recipe.recipe import Stage
from ftdsl.recipe.rows import FILES, Look, look_at, spec_of_entry
from ftdsl.recipe.shape import files_of, first_row
from ftdsl.session import Files


def read_json(path: Path, files: Files) -> Mapping[str, Any] | None:
    """An object, or None when there is none to be read."""
    try:
        content = files.json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def dataset(
    name: str, part: Any, info: Mapping[str, Any] | None, folder: Path, setting: Setting, files: Files, stage: str
) -> Dataset:
    """A data set that LLaMA-Factory reads. info: the dataset_info.json, None where there is none; folder: which file names are
    relative to; stage: LLaMA-Factory's name of it."""
    if info is None:
        return Dataset(name, part, setting=setting)
    entry = info.get(name)
    if not isinstance(entry, dict):
        return Dataset(name, part, known=tuple(info), setting=setting)
    file = entry.get("file_name")
    if not isinstance(file, str):
        return Dataset(name, part, entry, tuple(info), setting=setting)
    path = folder / file
    row = first_row(Term("file", {"path": file}), folder, files)
    exists = files.is_file(path) or files.is_dir(path)
    looks = looks_at(path, folder, entry, stage, files)
    return Dataset(name, part, entry, tuple(info), str(path), exists, tuple(row or ()), setting=setting, looks=looks)


def looks_at(path: Path, folder: Path, entry: Mapping[str, Any], stage: str, files: Files) -> tuple[Look, ...]:
    """The first rows of an entry's files, as LLaMA-Factory reads them."""
    spec = spec_of_entry(entry, stage)
    if spec is None:
        return ()
    return tuple(look_at(file, files, spec, convert=False) for file in files_of(path, folder, files)[:FILES])


def named_by(stage: Stage, folder: Path, files: Files, engine_stage: str) -> Iterator[Dataset]:
    """The entries that a stage of a recipe names (`file("data/dataset_info.json", entry = …)`); those that are missing are
    reported where they are lowered. folder: the recipe's."""
    for key, part in (("data", "train"), ("evaluate.data", "eval")):
        for item in stage.settings.items(key):
            if not isinstance(item, Term) or item.name != "file" or "entry" not in item.options:
                continue
            path, name = folder / str(item.options["path"]), str(item.options["entry"])
            info = read_json(path, files)
            if info is None or not isinstance(info.get(name), dict):
                continue
            setting = Setting(key, name, key, stage.spans.get(key, stage.span), stage.keys.get(key))
            yield dataset(name, part, info, path.parent, setting, files, engine_stage)
