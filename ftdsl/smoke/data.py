"""The data of a smoke run: what is at hand is read, as far as a few rows need; all else becomes made-up rows of its shape."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.recipe import Recipe
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import HEAD, files_of, first_row, local_path, settings_of, shape_of
from ftdsl.session import Files
from ftdsl.smoke import rows
from ftdsl.smoke.stage import ROWS, Smaller

_MEDIA = ("images", "videos", "audios")
_OWN = ("weight", "repeat", "sample", "limit")
"""Options of a source that count whatever its rows are."""


class Reached:
    """Collects the made-up files of a recipe, by their path in the run folder."""

    def __init__(self, recipe: Recipe, files: Files) -> None:
        self.recipe, self.files = recipe, files
        self.made_up: dict[str, bytes] = {}

    def reach(self, key: str, small: Smaller) -> None:
        """Replace what a key names, where it must be."""
        value = small.values.get(key)
        if isinstance(value, list | tuple):
            small.values[key] = [self._source(key, item, small) for item in value]
        elif isinstance(value, Term):
            small.values[key] = self._source(key, value, small)

    def _source(self, key: str, item: Any, small: Smaller) -> Any:
        if not isinstance(item, Term) or isinstance(item.options.get("path"), StageRef):
            return item
        settings = self._settings(item, small)
        kind = self.recipe.reader(small.stage) if small.stage.kind == "data" else small.stage.kind
        row = first_row(item, self.recipe.folder, self.files) if "entry" not in item.options else None
        shape = shape_of(settings, row, kind)
        if any(part in shape.columns for part in _MEDIA):
            return self._made_up(
                key, item, settings, kind, small, "pictures, films and sound are left out: the toy has no eyes"
            )
        files = self._files(item)
        if not files:
            return self._made_up(key, item, settings, kind, small, "it is not on this machine")
        return self._head(key, item, files, small)

    def _settings(self, item: Term, small: Smaller) -> Settings:
        """What is said of the rows: by the data stage, by the source itself, or by an entry of a dataset_info.json."""
        if small.stage.kind == "data":
            return small.settings()
        if "entry" not in item.options:
            return settings_of(item)
        entry = self._entry(item)
        columns = {f"columns.{_PARTS.get(part, part)}": name for part, name in (entry.get("columns") or {}).items()}
        roles = {f"roles.{_TAGS[tag]}": word for tag, word in (entry.get("tags") or {}).items() if tag in _TAGS}
        return Settings("data", {"format": Term(entry.get("formatting", "alpaca")), **columns, **roles})

    def _entry(self, item: Term) -> dict[str, Any]:
        try:
            found = self.files.json(self.recipe.folder / str(item.options["path"]))[item.options["entry"]]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}

    def _files(self, item: Term) -> list[Path]:
        """The files a source stands for; none when it is somewhere else."""
        path = local_path(item, self.recipe.folder)
        if path is not None and "entry" in item.options:
            beside = self._entry(item).get("file_name")
            path = path.parent / beside if isinstance(beside, str) else None
        return files_of(path, self.recipe.folder, self.files) if path is not None else []

    def _made_up(self, key: str, item: Term, settings: Settings, kind: str, small: Smaller, why: str) -> Term:
        plain = {name: value for name, value in settings.values.items() if name.partition(".")[2] not in _MEDIA}
        shape = shape_of(Settings("data", plain), None, kind)
        place = str(item.options.get("id") or item.options.get("path") or item.name)
        small.tell(key, place, f"{rows.COUNT} made-up {shape.format} rows", why)
        return self._file(
            item, rows.rows(shape, len(self.made_up)), {"format": Term(shape.format)} | self._said(item, plain)
        )

    def _said(self, item: Term, settings: dict[str, Any]) -> dict[str, Any]:
        """Columns and roles of an entry, which a source of its own cannot name otherwise."""
        inner = {name: value for name, value in settings.items() if name.startswith(("columns.", "roles."))}
        return inner if "entry" in item.options else {}

    def _head(self, key: str, item: Term, files: list[Path], small: Smaller) -> Term:
        """The first rows of a file that a stage reads itself: the engine would read all of it. Others stay."""
        options = dict(item.options)
        for name in ("sample", "limit"):
            if isinstance(options.get(name), int | float):
                options[name] = min(int(options[name]), 4 * ROWS)
        path = files[0]
        if small.stage.kind == "data" or len(files) > 1 or path.suffix not in (".json", ".jsonl") or "entry" in options:
            return Term(item.name, options)
        if len(self.files.head(path, HEAD)) < HEAD:
            return Term(item.name, options)
        rows = _rows(self.files.head(path, HEAD).decode("utf-8", "ignore"))
        small.tell(key, PurePosixPath(str(options["path"])).name, f"its first {len(rows)} rows", "few rows")
        return self._file(item, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(), options)

    def _file(self, item: Term, content: bytes, options: dict[str, Any]) -> Term:
        name = f"smoke/rows-{len(self.made_up) + 1}.jsonl"
        self.made_up[name] = content
        own = {word: item.options[word] for word in _OWN if word in item.options and word not in options}
        return Term("file", {**own, **options, "path": rows.SCHEME + name})


_PARTS = {"kto_tag": "label"}
_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
         "observation_tag": "tool", "function_tag": "call", "system_tag": "system"}  # fmt: skip
"""Words of a dataset_info.json, and ours."""


def _rows(text: str) -> list[Any]:
    """The first rows of JSON Lines, or of a JSON array."""
    found: list[Any] = []
    decoder, at = json.JSONDecoder(), 0
    text = text.lstrip("\ufeff \t\r\n[")
    while len(found) < ROWS:
        try:
            row, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        found.append(row)
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
    return found
