"""The shape of a data source: its format, the roles of its columns, and the names of speakers in chats.

What the recipe leaves open is detected from the first row, if the file is available.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.heads import head_of
from ftdsl.recipe.settings import Settings
from ftdsl.record import frozen
from ftdsl.runtime.data.conversion import CHATS, Converter
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
_OTHER_NAMES = {"prompt": ("prompt",), "response": ("completion",), "label": ("kto_tag",)}
"""Columns of TRL and of LLaMA-Factory's examples, read where the usual one is missing."""
_TURNS = ("conversations", "messages")
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
    row: the first row, None if not available; missing: columns that a stage of the kind needs and the row lacks;
    is_converted: whether a data stage must rewrite such rows before the engine can read them.
    """

    format: str
    columns: Mapping[str, str]
    roles: Mapping[str, str] = field(default_factory=dict)
    row: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()
    is_converted: bool = False

    def spec(self, kind: str) -> dict[str, Any]:
        """What `ftdsl/runtime/data` reads rows by, for a stage of the kind."""
        family = "preference-" if kind in PAIRS else "kto-" if kind == "kto" else ""
        return {"format": family + self.format, "columns": dict(self.columns), "roles": dict(self.roles)}


def shape_of(settings: Settings, row: Mapping[str, Any] | None, kind: str) -> Shape:
    """The shape of a source for a stage of a kind (`settings`: of a data stage, or the source's own options)."""
    format = settings.name("format") or "auto"
    if format == "auto":
        format = _seen(row, kind) if row is not None else "text" if kind == "pretrain" else "alpaca"
    own_columns = settings.inside("columns")
    roles = _roles_of(format, row, own_columns)
    roles = {**roles, **{k: str(v) for k, v in settings.inside("roles").items()}} if roles else {}
    parts = {**_COLUMNS.get(format, _COLUMNS["alpaca"]), **_MEDIA, **_extra(kind)}
    if row is not None:
        parts = {part: _present(part, column, format, row) for part, column in parts.items()}
    columns = {part: str(own_columns.get(part, column)) for part, column in parts.items()}
    first = row
    if row is not None:
        row = Converter(Shape(format, columns, roles).spec(kind)).row(row)
    needed = {_NEEDED.get(format, "prompt"), *_extra(kind)}
    if kind == "sft" and format == "alpaca":
        needed.add("response")
    missing = tuple(columns[part] for part in sorted(needed) if row is not None and columns[part] not in row)
    if kind in PAIRS or kind == "kto" or row is None:
        needed_parts = {*needed, *own_columns, *(() if kind in PAIRS else ("response", "query"))}
    else:
        needed_parts = {*needed, *own_columns}
    kept = {p: c for p, c in columns.items() if (p in needed_parts if row is None else c in row or p in own_columns)}
    return Shape(format, kept, roles, row, missing, row is not first)


def shape_of_sources(settings: Settings, folder: Path, kind: str, files: Files) -> Shape:
    """The shape of the rows that a data stage writes."""
    settings = with_own_options(settings)
    sources = [source for source in settings.items("source") if isinstance(source, Term | StageRef)]
    rows = [first_row(source, folder, files) for source in sources]
    return shape_of_all(settings, rows, [own_format(source) for source in sources], kind)


def own_format(source: Term | StageRef) -> str:
    """The format that a source names for itself; "" without."""
    name = settings_of(source).name("format") if isinstance(source, Term) else ""
    return "" if name == "auto" else name


def shape_of_all(settings: Settings, rows: Sequence[Mapping[str, Any] | None], own: Sequence[str], kind: str) -> Shape:
    """The shape of the rows that a data stage writes, given the first row and the own `format` of each source.

    Sources of several formats become chats in OpenAI's format.
    """
    if not rows:
        return shape_of(settings, None, kind)
    shapes = [
        shape_of(settings.with_values({"format": Term(name)}) if name else settings, row, kind)
        for row, name in zip(rows, own, strict=True)
        if row is not None or name
    ]
    formats = {shape.format for shape in shapes}
    alike = len(formats) < 2 and len({(*shape.columns.items(), *shape.roles.items()) for shape in shapes}) < 2
    if alike or "text" in formats or not formats <= {*CHATS, "alpaca"} or settings.name("format") not in ("", "auto"):
        named = settings.with_values({"format": Term(min(formats))}) if len(formats) == 1 else settings
        return shape_of(named, rows[0], kind)
    if formats == {"alpaca"}:
        return _joined(shape_of(settings.with_values({"format": Term("alpaca")}), rows[0], kind), shapes)
    parts = {part for shape in shapes for part in shape.columns if part in ("tools", *_MEDIA, *_extra(kind))}
    columns = {"messages": "messages", **{part: {**_CHAT, **_MEDIA, **_extra(kind)}[part] for part in sorted(parts)}}
    return Shape("openai", columns, _ROLES["openai"], None, is_converted=True)


def _joined(first: Shape, shapes: Sequence[Shape]) -> Shape:
    """Sources of one format with other columns: those of the first count, and rows are held against them."""
    return Shape(
        first.format, first.columns, first.roles, first.row, first.missing, any(s.is_converted for s in shapes)
    )


def _present(part: str, column: str, format: str, row: Mapping[str, Any]) -> str:
    """The column of a part in the first row: the usual one, or another tool's."""
    if column in row:
        return column
    if part == "messages":
        return next((name for name in _TURNS if isinstance(row.get(name), list)), column)
    if format == "alpaca" or part == "label":
        return next((name for name in _OTHER_NAMES.get(part, ()) if name in row), column)
    return column


def _roles_of(format: str, row: Mapping[str, Any] | None, own_columns: Mapping[str, Any]) -> dict[str, str]:
    """The roles of a chat format; where the first turn has the other format's keys, that one's."""
    if format not in _ROLES:
        return {}
    names = (str(own_columns.get("messages", "")), *_TURNS)
    turns = next((row[name] for name in names if isinstance(row.get(name), list)), None) if row else None
    turn = turns[0] if turns and isinstance(turns[0], dict) else {}
    for roles in (_ROLES[format], *_ROLES.values()):
        if roles["role"] in turn:
            return dict(roles)
    return dict(_ROLES[format])


def _extra(kind: str) -> dict[str, str]:
    if kind in PAIRS:
        return {"chosen": "chosen", "rejected": "rejected"}
    return {"label": "label"} if kind == "kto" else {}


def _seen(row: Mapping[str, Any], kind: str) -> str:
    for name, format in (("conversations", "sharegpt"), ("messages", "openai")):
        if isinstance(row.get(name), list):
            return format
    lists = ("prompt", *(("chosen",) if kind in PAIRS else ()))
    nested = row.get("input")
    if any(isinstance(row.get(name), list) for name in lists) or (isinstance(nested, dict) and "messages" in nested):
        return "openai"
    return "text" if "text" in row and not {"instruction", "prompt"} & row.keys() else "alpaca"


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


def first_row(item: Term | StageRef, folder: Path, files: Files) -> Mapping[str, Any] | None:
    """The first row of a JSON, JSON Lines, CSV or text source; None if it is not available cheaply."""
    path = local_path(item, folder)
    if path is None:
        return None
    for file in files_of(path, folder, files)[:1]:
        head = head_of(file, files, rows=1)
        row = head.rows[0][1] if head.rows and not head.trouble else None
        return row if isinstance(row, dict) else None
    return None


def files_of(path: Path, folder: Path, files: Files) -> list[Path]:
    """The files of a path: itself, those in a folder, or the matches of a glob pattern."""
    if any(char in str(path) for char in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        return [p for p in files.glob(anchor, str(path.relative_to(anchor))) if files.is_file(p)]
    if files.is_dir(path):
        return [p for p in files.glob(path, "*") if files.is_file(p) and p.name.endswith(ENDINGS)]
    return [path] if files.is_file(path) else []
