"""The first rows of data files, held against the format that a stage reads: the same checks as in a data stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftdsl.recipe.heads import ROWS, Head, head_of
from ftdsl.record import frozen
from ftdsl.runtime.data.checking import BadRowError, Checker, DroppedError
from ftdsl.runtime.data.conversion import CHATS, Converter
from ftdsl.session import Files

FILES = 4
"""Files of a source that are looked at."""
BYTES_PER_TOKEN = 4
"""Of English text. Other languages and code have fewer."""
SILENT = ("roles", "empty")
"""Kinds of bad rows that LLaMA-Factory leaves out or trains on without an error (llamafactory/data/converter.py)."""


@frozen
class Problem:
    """line: of the file, 0 for the file as a whole; kind: `file`, `json`, `missing`, `type`, `roles`, `empty` or `tools`."""

    line: int
    kind: str
    text: str


@frozen
class Look:
    """One file. problems: in the order of lines; rows: how many were looked at; is_whole: there are no more;
    lengths: bytes of each row's texts; columns: of all rows together; dropped: rows that `drop` leaves out, by reason (`kind`).
    """

    path: Path
    problems: Sequence[Problem]
    rows: int
    is_whole: bool
    lengths: Sequence[int]
    columns: frozenset[str] = frozenset()
    dropped: Sequence[Problem] = ()

    def where(self, problem: Problem, name: str) -> str:
        return f"{name}:{problem.line}" if problem.line else name

    def of(self, *kinds: str) -> list[Problem]:
        """Problems of these kinds."""
        return [problem for problem in self.problems if problem.kind in kinds]

    @property
    def stops(self) -> list[Problem]:
        """Problems at which the engine or the data stage stops."""
        return [problem for problem in self.problems if problem.kind not in SILENT]


def look_at(
    path: Path,
    files: Files,
    spec: Mapping[str, Any],
    *,
    source: Mapping[str, Any] | None = None,
    convert: bool = True,
) -> Look:
    """Check the first rows of a file.

    spec: as of a data stage: `format`, `columns`, `roles`, `drop`; convert: rows may need the conversions of a data stage.
    """
    head = head_of(path, files)
    if head.trouble:
        return Look(path, (Problem(0, "file", head.trouble),), 0, head.is_whole, ())
    problems = [Problem(*error) for error in head.errors]
    checker = Checker(_without_media(dict(spec)))
    row_of: Callable[[Any], Any] = Converter(spec, source).row if convert else lambda row: row
    lengths, dropped = [], []
    for line, row in head.rows:
        try:
            asked, answered = checker.check(row_of(row))
        except BadRowError as error:
            problems.append(Problem(line, error.kind, str(error).partition(" (drop = ")[0]))
        except DroppedError as error:
            dropped.append(Problem(line, error.reason, error.text))
        else:
            lengths.append(sum(len(text.encode("utf-8", "replace")) for text in (*asked, *answered)))
    columns = frozenset(name for _, row in head.rows if isinstance(row, dict) for name in row)
    problems.sort(key=lambda problem: problem.line)
    return Look(
        path, tuple(problems), len(head.rows) + len(head.errors), _all_rows(head), tuple(lengths), columns, dropped
    )


def _all_rows(head: Head) -> bool:
    return head.is_whole and len(head.rows) < ROWS


def _without_media(spec: dict[str, Any]) -> dict[str, Any]:
    """Pictures may be on another machine: whether they exist is checked by the data stage."""
    columns = {part: name for part, name in spec["columns"].items() if part not in ("images", "videos", "audios")}
    return {**spec, "columns": columns}


def spec_of_entry(entry: Mapping[str, Any], stage: str) -> dict[str, Any] | None:
    """How LLaMA-Factory reads the rows of an entry of dataset_info.json; None if the entry is wrong in itself.

    stage: LLaMA-Factory's (`sft`, `pt`, …). Once `columns` or `tags` are given, their defaults are gone
    (llamafactory/data/parser.py, DatasetAttr.join).
    """
    format, columns, tags = entry.get("formatting", "alpaca"), entry.get("columns", {}), entry.get("tags", {})
    if format not in ("alpaca", *CHATS) or not isinstance(columns, Mapping) or not isinstance(tags, Mapping):
        return None
    named = {part: name for part, name in columns.items() if isinstance(name, str)} if "columns" in entry else _COLUMNS
    parts = {"kto_tag": "label"}
    columns = {parts.get(part, part): name for part, name in named.items()}
    roles = {role: str(tags.get(tag, "") if "tags" in entry else default) for role, (tag, default) in _TAGS.items()}
    family = "preference-" if entry.get("ranking") else "kto-" if "label" in columns and stage == "kto" else ""
    if stage == "pt" and format == "alpaca":
        return {
            "format": "text",
            "columns": {part: columns[part] for part in ("prompt",) if part in columns},
            "roles": {},
        }
    if format == "alpaca" and not family and stage != "sft":
        columns.pop("response", None)
    return {"format": family + format, "columns": columns, "roles": roles if format in CHATS else {}}


_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
_TAGS = {"role": ("role_tag", "from"), "content": ("content_tag", "value"), "user": ("user_tag", "human"),
         "assistant": ("assistant_tag", "gpt"), "tool": ("observation_tag", "observation"),
         "call": ("function_tag", "function_call"), "system": ("system_tag", "system")}  # fmt: skip


def summary(look: Look, problems: Sequence[Problem], name: str) -> str:
    """`rows.jsonl:21: not JSON: …; 3 of the first 90 rows do not fit`."""
    first = problems[0]
    text = f"{look.where(first, name)}: {first.text}"
    if first.line and len(problems) > 1:
        does = "are like this" if len({problem.kind for problem in problems}) == 1 else "do not fit"
        text += f"; {len(problems):,} of {seen(look)} {does}"
    return text


def seen(look: Look) -> str:
    return f"{look.rows:,} rows" if look.is_whole else f"the first {look.rows:,} rows"


def far_too_long(look: Look, limit: float) -> int:
    """How many rows are longer than `limit` tokens even if a token is six bytes: few languages have tokens of more."""
    return sum(length > 1.5 * BYTES_PER_TOKEN * limit for length in look.lengths)


def fewer_than_a_pack(looks: Sequence[Look], limit: float) -> bool:
    """Whether all rows together are shorter than `limit` tokens: a token has a byte or more, each row two of its own."""
    whole = bool(looks) and all(look.is_whole and look.rows and not look.problems for look in looks)
    return whole and sum(length + 2 for look in looks for length in look.lengths) < limit
