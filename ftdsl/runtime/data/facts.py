"""report.json: all that is known of the data at the end, for programs and for the card."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import numpy as np
import orjson

from . import lengths
from .checking import REASONS
from .choosing import PARTS, Choice, lowest
from .surveying import Span, Survey
from .table import Table
from .writing import KEPT_OUT, Part, Writer

SCHEMA = 1
SHOWN = 4
"""Rows of a part that the card shows."""
BATCH = 1 << 20
LONG = 4000
"""Characters of a shown row's text; longer ones are cut, and marked."""


def to_show(table: Table, choice: Choice, seed: int) -> dict[int, str]:
    """A few rows of each part: row -> part. Chosen by content, so that the same data shows the same rows."""
    to_part: dict[int, str] = {}
    for number, name in enumerate(PARTS):
        rows = choice.kept(number)
        if len(rows):
            to_part |= dict.fromkeys(lowest(table.column("digest"), rows, SHOWN, seed ^ 0x5B0).tolist(), name)
    return to_part


def facts(
    spec: dict[str, Any],
    survey: Survey,
    choice: Choice,
    writer: Writer,
    parts: dict[str, Part],
    shown: dict[int, str],
    counted: set[int],
) -> dict[str, Any]:
    """The whole report."""
    table = survey.table
    spans = survey.spans
    rows = {span.file.name: span.end - span.start for span in spans}
    seen = {row: writer.seen[row] for row in counted}
    chars = table.column("chars")[choice.copies > 0]
    return {
        "schema": SCHEMA,
        "stage": spec["stage"],
        "where": spec["where"],
        "format": spec["format"],
        "read": rows,
        "sizes": {span.file.name: span.file.size for span in spans},
        "splits": {name: part.rows for name, part in parts.items()},
        "dropped": {name: writer.dropped[name] for name in REASONS if writer.dropped[name]},
        "sources": [_source(spec, number, spans, table, choice) for number in range(len(spec["sources"]))],
        "files": [_file(span, table, choice) for span in spans],
        "parts": {name: _part(name, part, table, choice) for name, part in parts.items()},
        "tokens": lengths.measured(spec, table, choice, seen),
        "characters": {"unit": "characters", "of": len(chars), "quantiles": lengths.quantiles(chars)},
        "language_untold": survey.undetected,
        "dropped_rows": "dropped.jsonl" if writer.dropped else None,
        "dropped_rows_cap": KEPT_OUT,
        "samples": [
            _sample(row, name, writer) for row, name in sorted(shown.items(), key=lambda item: PARTS.index(item[1]))
        ],
        "warnings": survey.reporter.warnings,
    }


def text(report: dict[str, Any]) -> str:
    """As JSON, with lists of numbers on one line."""
    whole = json.dumps(report, indent=1, ensure_ascii=False)
    return re.sub(r"\[\n[\d,\s]+\]", lambda numbers: re.sub(r"\s+", " ", numbers[0]), whole) + "\n"


def _reasons(start: int, end: int, table: Table) -> Counter[str]:
    counts = np.bincount(table.column("why")[start:end], minlength=len(REASONS))
    return Counter({name: int(counts[at]) for at, name in enumerate(REASONS) if at and counts[at]})


def _file(span: Span, table: Table, choice: Choice) -> dict[str, Any]:
    copies = choice.copies[span.start : span.end]
    return {
        "file": span.file.name,
        "bytes": span.file.size,
        "rows": span.end - span.start,
        "kept": int((copies > 0).sum()),
        "dropped": dict(_reasons(span.start, span.end, table)),
    }


def _source(spec: dict[str, Any], number: int, spans: list[Span], table: Table, choice: Choice) -> dict[str, Any]:
    source = spec["sources"][number]
    mine = [span for span in spans if span.source == number]
    dropped: Counter[str] = Counter()
    kept = rows = written = not_taken = chars = 0
    for span in mine:
        here = slice(span.start, span.end)
        copies, dropped_here = choice.copies[here], _reasons(span.start, span.end, table)
        dropped += dropped_here
        rows += span.end - span.start
        kept += int((copies > 0).sum())
        written += int(copies.sum())
        not_taken += int(((copies == 0) & (table.column("why")[here] == 0)).sum())
        chars += int(table.column("chars")[here][copies > 0].sum(dtype=np.int64))
    return {
        "name": source.get("path") or source.get("id"),
        "where": source.get("where", ""),
        "part": source.get("part"),
        "files": len(mine),
        "rows": rows,
        "kept": kept,
        "written": written,
        "not_sampled": not_taken,
        "dropped": dict(dropped),
        "characters": round(chars / kept, 1) if kept else 0,
        **{word: source[word] for word in ("limit", "sample", "weight") if source.get(word) is not None},
        **({"repeat": source["repeat"]} if (source.get("repeat") or 1) > 1 else {}),
    }


def _part(name: str, part: Part, table: Table, choice: Choice) -> dict[str, Any]:
    """`content` is the same for the same rows in any order: the sum of their digests."""
    rows = choice.kept(PARTS.index(name))
    total = 0
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        with np.errstate(over="ignore"):
            total += int((table.column("digest")[some] * choice.copies[some]).sum(dtype=np.uint64))
    return {
        "file": f"{name}.jsonl",
        "rows": part.rows,
        "bytes": part.size,
        "sha256": part.sha256.hexdigest(),
        "content": f"{total % 2**64:016x}",
    }


def _sample(row: int, part: str, writer: Writer) -> dict[str, Any]:
    return {"part": part, "where": writer.where(row), "row": _cut(orjson.loads(writer.seen[row]))}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= LONG else f"{value[:LONG]} … ({len(value) - LONG} characters more)"
    if isinstance(value, list):
        return [_cut(item) for item in value[:50]]
    return {key: _cut(item) for key, item in value.items()} if isinstance(value, dict) else value
