"""`limit`: the first N rows are held against their format, however the file is laid out, and what is behind them is not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.stage import numbered, run

GOOD = {"instruction": "q", "output": "a"}
BAD = {"foo": "x"}
Rows = list[Any]


def layouts(rows: Rows) -> dict[str, str]:
    """The same rows, in every layout a JSON file may have."""
    each = [json.dumps(row) for row in rows]
    return {
        "a.jsonl": "\n".join(each),
        "line.json": json.dumps(rows),
        "pretty.json": json.dumps(rows, indent=2),
        "rows.json": "[\n" + ",\n".join(each) + "\n]\n",
        "pairs.json": "[" + ",\n".join(f"{a}, {b}" for a, b in zip(each[::2], each[1::2], strict=False)) + "\n]",
        "concatenated.json": " ".join(each),
        "lines.json": "\n".join(each),
    }


LAYOUTS = tuple(layouts([GOOD]))


def limited(folder: Path, name: str, rows: Rows, limit: int, *, packed: bool = False) -> Any:
    content: str | bytes = layouts(rows)[name]
    if packed:
        name, content = f"{name}.gz", gzip.compress(content.encode())
    return run(folder, {name: content}, sources=[{"path": name, "limit": limit, "where": "r.ft:2"}])


CASES: dict[str, tuple[Rows, int, int]] = {
    "bad within": ([GOOD, GOOD, BAD, GOOD], 3, 1),
    "bad first": ([BAD, GOOD], 1, 1),
    "bad right behind": ([GOOD, GOOD, BAD, GOOD], 2, 0),
    "bad among many": ([*[GOOD] * 5, *[BAD] * 5, *[GOOD] * 5], 8, 5),
    "more wanted than there are": ([GOOD, BAD, GOOD], 10, 1),
    "many bad within": ([*[BAD] * 50, GOOD, *[BAD] * 50], 1, 50),
    "nothing but bad": ([BAD] * 3, 2, 3),
    "a number": ([GOOD, 1, GOOD], 2, 1),
    "a list, a text, null": ([GOOD, [1], "text", None, GOOD], 2, 3),
    "no object right behind": ([GOOD, 1], 1, 0),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_the_first_rows_are_checked_and_no_others(case: str, name: str, packed: bool, tmp_path: Path) -> None:
    rows, limit, bad = CASES[case]
    if name == "pairs.json" and len(rows) % 2:
        rows = [*rows, GOOD]
    if name == "lines.json" and not isinstance(rows[0], dict):
        return
    done = limited(tmp_path, name, rows, limit, packed=packed)
    assert "Traceback" not in done.stderr
    if not bad:
        assert done.returncode == 0, done.stderr
        assert done.rows() == [GOOD] * limit
        return
    assert done.returncode == 1, done.stdout
    event = json.loads((done.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert ("(and" in event["message"]) == (bad > 1)
    if bad > 1:
        assert f"(and {bad - 1} more)" in event["message"], event
    assert "no `instruction`; this row has `foo`" in done.stderr or "a row is an object, not" in done.stderr


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("a.jsonl", "a.jsonl:3"),
        ("line.json", "line.json:1: row 3"),
        ("rows.json", "rows.json:4"),
        ("pairs.json", "pairs.json:2: row 3"),
        ("concatenated.json", "concatenated.json:1: row 3"),
    ],
)
def test_a_row_is_found_again(name: str, where: str, tmp_path: Path) -> None:
    done = limited(tmp_path, name, [GOOD, GOOD, BAD, GOOD], 4)
    assert f"error: {where}: no `instruction`" in done.stderr


@pytest.mark.parametrize("name", ["line.json", "a.jsonl"])
@pytest.mark.slow
def test_over_many_blocks(name: str, tmp_path: Path) -> None:
    """Read by several processes: the limit falls into one of the later blocks."""
    rows: Rows = [{**row, "input": "x" * 2000} for row in numbered(9000)]
    rows[8000] = BAD
    assert limited(tmp_path / "a", name, rows, 7999).returncode == 0
    assert limited(tmp_path / "b", name, rows, 8000).returncode == 0
    done = limited(tmp_path / "c", name, rows, 8001)
    assert done.returncode == 1
    assert "8001" in done.stderr


def test_what_is_left_out_of_an_array_is_told_with_its_row(tmp_path: Path) -> None:
    rows = [GOOD, {"instruction": "", "output": ""}, GOOD]
    done = run(tmp_path, {"a.json": json.dumps(rows)}, drop=["empty"])
    assert done.returncode == 0, done.stderr
    (row,) = done.dropped
    assert row == {"why": "empty", "file": "a.json", "line": 1, "number": 2, "row": rows[1]}
