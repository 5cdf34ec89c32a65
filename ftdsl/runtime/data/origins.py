"""`python -m runtime.data origins SPEC.json PART ROW…`: where rows of a data stage's part came from.

Rows are numbered from 0, in `PART.jsonl` of the stage's folder. Prints JSON: a list of `{"row": …, "where": "inputs/a.jsonl:17",
"hash": "5f3c81…", "text": {…}}`. The sources are read until all are lines; a part's lines are those of its sources.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import orjson
from xxhash import xxh3_64_hexdigest

from .blocks import CannotReadError
from .named import DIGITS
from .reading import files_of


def hash_of(row: Any) -> str:
    """Of a row's content, whatever the order of its keys."""
    return xxh3_64_hexdigest(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))[:DIGITS]


def lines_of(path: str, rows: Iterable[int]) -> dict[int, bytes]:
    """Lines of a file that are not blank, by their number from 0."""
    wanted = set(rows)
    lines: dict[int, bytes] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(line.strip() for line in file if line.strip()):
            if number in wanted:
                lines[number] = line
                if len(lines) == len(wanted):
                    break
    return lines


def origins(spec: dict[str, Any], part: str, rows: Iterable[int]) -> list[dict[str, Any]]:
    """Each row with its first position in the sources; "" where none does any more. Raises: OSError."""
    lines = lines_of(os.path.join(spec["stage"], f"{part}.jsonl"), rows)
    missing = set(lines.values())
    locations: dict[bytes, str] = {}
    for source in spec["sources"]:
        try:
            files = files_of(source)
        except (CannotReadError, OSError):
            continue
        for file in files:
            if not missing:
                break
            for block in file.blocks():
                for position, line in block.numbered():
                    if (line := line.strip()) in missing:
                        missing.discard(line)
                        locations[line] = file.where(position)
                if not missing:
                    break
    made = []
    for row, line in lines.items():
        text = orjson.loads(line)
        made.append({"row": row, "where": locations.get(line, ""), "hash": hash_of(text), "text": text})
    return made


def main(spec: dict[str, Any], argv: list[str]) -> int:
    """0."""
    print(json.dumps(origins(spec, argv[0], map(int, argv[1:]))))
    return 0
