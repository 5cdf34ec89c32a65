"""The data of a smoke run: local files are read, as far as a few rows need; everything else becomes generated rows."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.heads import HEAD
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import files_of, first_row, local_path, settings_of, shape_of
from ftdsl.session import Files
from ftdsl.smoke import rows
from ftdsl.smoke.stage import ROWS, StageReducer

_MEDIA = ("images", "videos", "audios")
_OWN = ("weight", "repeat", "sample", "limit")
"""Options of a source that are kept, whatever its rows are."""


class DataReplacer:
    """Replaces the data of stages. made_up: the generated files, by their path in the run folder."""

    def __init__(self, recipe: Recipe, files: Files) -> None:
        self.recipe, self.files = recipe, files
        self.made_up: dict[str, bytes] = {}

    def replace(self, key: str, reducer: StageReducer) -> None:
        """Replace the sources at a key, where necessary."""
        value = reducer.values.get(key)
        if isinstance(value, list | tuple):
            reducer.values[key] = [self._source(key, item, reducer) for item in value]
        elif isinstance(value, Term):
            reducer.values[key] = self._source(key, value, reducer)

    def _source(self, key: str, item: Any, reducer: StageReducer) -> Any:
        if not isinstance(item, Term) or isinstance(item.options.get("path"), StageRef):
            return item
        settings = self._settings(item, reducer)
        kind = self.recipe.reader(reducer.stage) if reducer.stage.kind == "data" else reducer.stage.kind
        row = first_row(item, self.recipe.folder, self.files) if "entry" not in item.options else None
        shape = shape_of(settings, row, kind)
        if any(part in shape.columns for part in _MEDIA):
            return self._made_up(
                key,
                item,
                settings,
                kind,
                reducer,
                "images, videos and audio are left out: the toy model reads text only",
            )
        files = self._files(item)
        if not files:
            return self._made_up(key, item, settings, kind, reducer, "it is not on this machine")
        return self._head(key, item, files, reducer)

    def _settings(self, item: Term, reducer: StageReducer) -> Settings:
        """The settings of the rows: of the data stage, of the source itself, or of an entry of a dataset_info.json."""
        if reducer.stage.kind == "data":
            return reducer.settings()
        if "entry" not in item.options:
            return settings_of(item)
        entry = self._entry(item)
        columns = {f"columns.{_PARTS.get(part, part)}": name for part, name in (entry.get("columns") or {}).items()}
        roles = {f"roles.{_TAGS[tag]}": word for tag, word in (entry.get("tags") or {}).items() if tag in _TAGS}
        return Settings("data", {"format": Term(entry.get("formatting", "alpaca")), **columns, **roles})

    def _entry(self, item: Term) -> dict[str, Any]:
        try:
            entry = self.files.json(self.recipe.folder / str(item.options["path"]))[item.options["entry"]]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return entry if isinstance(entry, dict) else {}

    def _files(self, item: Term) -> list[Path]:
        """The local files of a source; none if it is not on this machine."""
        path = local_path(item, self.recipe.folder)
        if path is not None and "entry" in item.options:
            beside = self._entry(item).get("file_name")
            path = path.parent / beside if isinstance(beside, str) else None
        return files_of(path, self.recipe.folder, self.files) if path is not None else []

    def _made_up(self, key: str, item: Term, settings: Settings, kind: str, reducer: StageReducer, why: str) -> Term:
        plain = {name: value for name, value in settings.values.items() if name.partition(".")[2] not in _MEDIA}
        shape = shape_of(Settings("data", plain), None, kind)
        source = str(item.options.get("id") or item.options.get("path") or item.name)
        reducer.record(key, source, f"{rows.COUNT} generated {shape.format} rows", why)
        return self._file(
            item, rows.rows(shape, len(self.made_up)), {"format": Term(shape.format)} | self._columns(item, plain)
        )

    def _columns(self, item: Term, settings: dict[str, Any]) -> dict[str, Any]:
        """Columns and roles of an entry; the source that replaces it needs them as options."""
        inner = {name: value for name, value in settings.items() if name.startswith(("columns.", "roles."))}
        return inner if "entry" in item.options else {}

    def _head(self, key: str, item: Term, files: list[Path], reducer: StageReducer) -> Term:
        """The first rows of a file that the engine reads itself, since it would read the whole file. Other sources stay."""
        options = dict(item.options)
        for name in ("sample", "limit"):
            if isinstance(options.get(name), int | float):
                options[name] = min(int(options[name]), 4 * ROWS)
        path = files[0]
        if (
            reducer.stage.kind == "data"
            or len(files) > 1
            or path.suffix not in (".json", ".jsonl")
            or "entry" in options
        ):
            return Term(item.name, options)
        if len(self.files.head(path, HEAD)) < HEAD:
            return Term(item.name, options)
        rows = _rows(self.files.head(path, HEAD).decode("utf-8", "ignore"))
        reducer.record(key, PurePosixPath(str(options["path"])).name, f"its first {len(rows)} rows", "few rows")
        return self._file(item, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(), options)

    def _file(self, item: Term, content: bytes, options: dict[str, Any]) -> Term:
        name = f"smoke/rows-{len(self.made_up) + 1}.jsonl"
        self.made_up[name] = content
        own = {option: item.options[option] for option in _OWN if option in item.options and option not in options}
        return Term("file", {**own, **options, "path": rows.SCHEME + name})


_PARTS = {"kto_tag": "label"}
_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
         "observation_tag": "tool", "function_tag": "call", "system_tag": "system"}  # fmt: skip
"""Names in dataset_info.json -> names in a recipe."""


def _rows(text: str) -> list[Any]:
    """The first rows of JSON Lines, or of a JSON array."""
    read: list[Any] = []
    decoder, at = json.JSONDecoder(), 0
    text = text.lstrip("\ufeff \t\r\n[")
    while len(read) < ROWS:
        try:
            row, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        read.append(row)
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
    return read
