"""Sources to blocks: a path, folder, glob or hub data set becomes files, and a file becomes blocks of JSON lines."""

from __future__ import annotations

import glob
import os
from typing import Any

from . import formats
from .blocks import CannotReadError, File, unpacked
from .hubs import data_set

ENDINGS = (".jsonl", ".json", ".csv", ".parquet")


def files_of(source: dict[str, Any]) -> list[File]:
    """The files of a source, sorted by name. Raises: CannotReadError when there are none."""
    if "hub" in source:
        return [data_set(source)]
    path = source["path"]
    names = _named(path)
    if not names:
        raise CannotReadError(
            "there is no such file" if not os.path.isdir(path) else "no file in it is of a known kind"
        )
    return [_file(name) for name in names]


def _named(path: str) -> list[str]:
    """Itself, those of a folder, those a glob matches."""
    if os.path.isdir(path):
        inside = (os.path.join(path, name) for name in os.listdir(path))
        return sorted(name for name in inside if unpacked(name).endswith(ENDINGS) and os.path.isfile(name))
    names = [path] if os.path.isfile(path) else glob.glob(path, recursive=True)
    return sorted(name for name in names if os.path.isfile(name))


def _file(name: str) -> File:
    kind = unpacked(name).rpartition(".")[2]
    kinds = {
        "jsonl": formats.line_rows,
        "csv": formats.csv_rows, "parquet": formats.parquet_rows, "json": formats.json_rows, "txt": formats.text_rows,
    }  # fmt: skip
    blocks = kinds.get(kind, formats.lines)
    return File(name, os.path.getsize(name), lambda: blocks(name), "row" if kind == "parquet" else "line")
