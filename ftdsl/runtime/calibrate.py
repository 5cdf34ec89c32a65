"""`calibrate.py SPEC.json`: rows of a data stage written out as long texts, for the engine's quantisation.

spec: `rows` (a JSON Lines file), `columns` and `roles` as in dataset_info.json, `characters` that a text has at least. Gives
`calibrate.jsonl` in the stage's folder, `{"text": …}` a line. Short rows are of no use to the engine, so rows are joined.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import events

PARTS = ("system", "prompt", "query", "response")


def text_of(row: dict[str, Any], columns: dict[str, str], roles: dict[str, str]) -> str:
    """The words of a row, turn by turn, without the marks of a chat format."""
    turns = row.get(columns.get("messages", "")) or []
    turn_texts = [str(turn.get(roles.get("content", "content")) or "") for turn in turns if isinstance(turn, dict)]
    column_texts = [str(row.get(columns[part]) or "") for part in PARTS if part in columns]
    return "\n".join(part for part in (*column_texts, *turn_texts) if part)


def long_texts(texts: Iterable[str], least: int) -> Iterator[str]:
    """Texts joined until each has `least` characters; what is left over at the end is given too."""
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size >= least:
            yield "\n\n".join(parts)
            parts, size = [], 0
    if parts:
        yield "\n\n".join(parts)


def main(argv: list[str]) -> int:
    """The exit status: 1 when there is nothing to calibrate with."""
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    path = Path(spec["stage"]) / "calibrate.jsonl"
    beside = path.with_name(".calibrate.jsonl")
    count = 0
    with Path(spec["rows"]).open(encoding="utf-8") as lines, beside.open("w", encoding="utf-8") as out:
        rows = (json.loads(line) for line in lines if line.strip())
        texts = (text_of(row, spec["columns"], spec["roles"]) for row in rows)
        for text in long_texts(filter(None, texts), spec["characters"]):
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            count += 1
    beside.replace(path)
    return 0 if count else events.fail(spec["stage"], f"{spec['rows']} has no text to calibrate with", "calibrate")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
