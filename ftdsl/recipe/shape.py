"""The shape of a data source: its format, the roles of its columns, and the names of speakers in chats.

What the recipe leaves open is detected from the first row, if the file is available.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.settings import Settings
from ftdsl.record import frozen
from ftdsl.session import Files

PAIRS = ("dpo", "reward")
_KINDS = (".json", ".jsonl", ".csv", ".parquet")
_PACKED = (".gz", ".bz2", ".xz", ".zst")
ENDINGS = (*_KINDS, *(f"{kind}{packed}" for kind in _KINDS for packed in _PACKED))
"""Extensions of data files in a folder; the same as in ftdsl/runtime/data/reading.py."""

_CHAT = {"messages": "conversations", "system": "system", "tools": "tools"}
_MEDIA = {"images": "images", "videos": "videos", "audios": "audios"}
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output", "history": "history",
               "system": "system", "tools": "tools"},
    "sharegpt": _CHAT,
    "openai": {**_CHAT, "messages": "messages"},
    "text": {"prompt": "text"},
}  # fmt: skip
_NEEDED = {"alpaca": "prompt", "sharegpt": "messages", "openai": "messages", "text": "prompt"}
_ROLES: Mapping[str, Mapping[str, str]] = {
    "sharegpt": {"role": "from", "content": "value", "user": "human", "assistant": "gpt", "tool": "observation",
                 "call": "function_call", "system": "system"},
    "openai": {"role": "role", "content": "content", "user": "user", "assistant": "assistant", "tool": "tool",
               "call": "function_call", "system": "system"},
}  # fmt: skip


@frozen
class Shape:
    """format: alpaca, sharegpt, openai or text; columns: part -> column; roles: of chats, else empty;
    row: the first row, None if not available; missing: columns that a stage of the kind needs and the row lacks.
    """

    format: str
    columns: Mapping[str, str]
    roles: Mapping[str, str] = field(default_factory=dict)
    row: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()


def shape_of(settings: Settings, row: Mapping[str, Any] | None, kind: str) -> Shape:
    """The shape of a source for a stage of a kind (`settings`: of a data stage, or the source's own options)."""
    format = settings.name("format") or "auto"
    if format == "auto":
        format = _seen(row) if row is not None else "text" if kind == "pretrain" else "alpaca"
    own_columns = settings.inside("columns")
    parts = {**_COLUMNS.get(format, _COLUMNS["alpaca"]), **_MEDIA, **_extra(kind)}
    columns = {part: str(own_columns.get(part, column)) for part, column in parts.items()}
    needed = {_NEEDED.get(format, "prompt"), *_extra(kind)}
    if kind == "sft" and format == "alpaca":
        needed.add("response")
    missing = tuple(columns[part] for part in sorted(needed) if row is not None and columns[part] not in row)
    if kind in PAIRS or kind == "kto" or row is None:
        needed_parts = {*needed, *own_columns, *(() if kind in PAIRS else ("response", "query"))}
    else:
        needed_parts = {*needed, *own_columns}
    kept = {p: c for p, c in columns.items() if (p in needed_parts if row is None else c in row or p in own_columns)}
    roles = {**_ROLES[format], **{k: str(v) for k, v in settings.inside("roles").items()}} if format in _ROLES else {}
    return Shape(format, kept, roles, row, missing)


def _extra(kind: str) -> dict[str, str]:
    if kind in PAIRS:
        return {"chosen": "chosen", "rejected": "rejected"}
    return {"label": "label"} if kind == "kto" else {}


def _seen(row: Mapping[str, Any]) -> str:
    for name, format in (("conversations", "sharegpt"), ("messages", "openai")):
        if isinstance(row.get(name), list):
            return format
    return "text" if "text" in row and "instruction" not in row else "alpaca"


def settings_of(item: Term) -> Settings:
    """The settings of a source inside a stage: its options are the keys of a `data` stage."""
    return Settings("data", dict(item.options))


def only_source(settings: Settings) -> Term | None:
    """The source of a data stage, if it has a single one that is not a stage."""
    sources = [item for item in settings.items("source") if isinstance(item, Term | StageRef)]
    return sources[0] if len(sources) == 1 and isinstance(sources[0], Term) else None


def with_own_options(settings: Settings) -> Settings:
    """The settings of a data stage, with the options of its source if it has a single one."""
    source = only_source(settings)
    own_options = (
        {name: value for name, value in source.options.items() if name not in ("id", "path")} if source else {}
    )
    return settings.with_values(own_options) if own_options else settings


def local_path(item: Term | StageRef, folder: Path) -> Path | None:
    """The path of a `file(…)` source; None for hubs, URLs and results of stages."""
    path = item.options.get("path") if isinstance(item, Term) and item.name == "file" else None
    return folder / path if isinstance(path, str) and "://" not in path else None


HEAD = 1 << 20
"""Maximum bytes of a file to read for its first row."""


def first_row(item: Term | StageRef, folder: Path, files: Files) -> Mapping[str, Any] | None:
    """The first row of a JSON, JSON Lines, CSV or text source; None if it is not available cheaply."""
    path = local_path(item, folder)
    if path is None:
        return None
    for file in files_of(path, folder, files)[:1]:
        try:
            head, name = files.head(file, HEAD), file.name
            if name.endswith(".gz"):
                head, name = zlib.decompressobj(wbits=31).decompress(head, HEAD), file.stem
            text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
            if name.endswith(".csv"):
                return _first_of_csv(text)
            if name.endswith(".txt"):
                return {"text": text.partition("\n")[0]} if text else None
            return _first(text) if name.endswith((".json", ".jsonl")) else None
        except (OSError, ValueError, zlib.error, RecursionError):
            return None
    return None


def _first_of_csv(text: str) -> Mapping[str, Any] | None:
    import csv  # rarely needed

    try:
        return next(csv.DictReader(io.StringIO(text)), None)
    except csv.Error:
        return None


def files_of(path: Path, folder: Path, files: Files) -> list[Path]:
    """The files of a path: itself, those in a folder, or the matches of a glob pattern."""
    if any(char in str(path) for char in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        return [p for p in files.glob(anchor, str(path.relative_to(anchor))) if files.is_file(p)]
    if files.is_dir(path):
        return [p for p in files.glob(path, "*") if files.is_file(p) and p.name.endswith(ENDINGS)]
    return [path] if files.is_file(path) else []


def _first(text: str) -> Mapping[str, Any] | None:
    """The first JSON object of a text. Raises: ValueError if it does not start with an object or an array of objects."""
    start = len(text) - len(text[1:].lstrip()) if text.startswith("[") else 0
    row, _ = json.JSONDecoder().raw_decode(text, start)
    return row if isinstance(row, dict) else None
