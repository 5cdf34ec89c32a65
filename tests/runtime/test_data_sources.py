"""Files of every kind the data stage reads: nothing lost, nothing made up, and broken ones named with their place."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdsl.runtime.data import formats
from tests.runtime.stage import lines, numbered, run

ROWS = [*numbered(30), {"instruction": "ü 雪 \u2028", "input": "", "output": 'two\nlines, "quoted"'}]


def _parquet(rows: list[Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def _csv(rows: list[Any]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _zstd(rows: list[Any]) -> bytes:
    packed: bytes = pa.compress(lines(rows).encode(), codec="zstd", asbytes=True)
    return packed


KINDS: dict[str, Callable[[list[Any]], bytes]] = {
    "a.jsonl": lambda rows: lines(rows).encode(),
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf" + lines(rows).encode(),
    "crlf.jsonl": lambda rows: lines(rows).replace("\n", "\r\n").encode(),
    "no-end.jsonl": lambda rows: lines(rows).rstrip().encode(),
    "a.json": lambda rows: json.dumps(rows).encode(),
    "pretty.json": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False).encode(),
    "lines.json": lambda rows: lines(rows).encode(),
    "one-by-one.json": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows).encode(),
    "a.csv": _csv,
    "a.parquet": _parquet,
    "a.jsonl.gz": lambda rows: gzip.compress(lines(rows).encode()),
    "a.json.bz2": lambda rows: bz2.compress(json.dumps(rows).encode()),
    "a.csv.xz": lambda rows: lzma.compress(_csv(rows)),
    "a.jsonl.zst": _zstd,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_its_rows(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, {name: KINDS[name](ROWS)})
    assert done.returncode == 0, done.stderr
    assert done.rows() == ROWS
    assert done.report["read"] == {name: len(ROWS)}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("block", [7, 64, 1000])
def test_where_blocks_end_does_not_matter(
    name: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "BLOCK", block)
    assert run(tmp_path, {name: KINDS[name](ROWS)}).rows() == ROWS


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT, lambda inner: st.lists(inner, max_size=3)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries({"instruction": TEXT, "output": TEXT, "more": VALUE}), min_size=1, max_size=6)
)
@pytest.mark.parametrize("name", ["a.jsonl", "pretty.json", "one-by-one.json"])
@pytest.mark.slow
def test_any_row_goes_through_unchanged(name: str, rows: list[Any], tmp_path: Path) -> None:
    assert run(tmp_path, {name: KINDS[name](rows)}).rows() == rows


def test_a_folder_and_a_glob_give_their_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "notes.txt"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text(lines(numbered(2, 10 * ord(name[0]))), encoding="utf-8")
    for path in ("in", "in/*.jsonl", "*/[ab].jsonl"):
        done = run(tmp_path, {}, sources=[{"path": path}])
        assert list(done.report["read"]) == ["in/a.jsonl", "in/b.jsonl"]
    (tmp_path / "empty").mkdir()
    assert "empty: no file in it is of a known kind" in run(tmp_path, {}, sources=[{"path": "empty"}]).stderr


GOOD = b'{"instruction": "q", "output": "a"}\n'
BROKEN = [
    (b'{"instruction": "q\xff", "output": "a"}\n', "not UTF-8: byte 0xff at 19"),
    (b'{"instruction": "q\x00", "output": "a"}\n', "there is a NUL byte in it"),
    (b'{"instruction": "q", "output": "a", "n": 1e999}\n', "not JSON: number is infinity"),
    (
        b'{"instruction": "q", "output": "a", "n": 123456789012345678901234567890}\n',
        "the number in `n` does not fit 64 bits",
    ),
    (
        b'{"instruction": "q", "output": "a", "n": [1, 99999999999999999999]}\n',
        "the number in `n` does not fit 64 bits",
    ),
    (b'{"instruction": "q", "output": "a", "n": ' + b"9" * 5000 + b"}\n", "not JSON: "),
    (b'{"instruction": "q", "instruction": "r", "output": "a"}\n', "the key `instruction` is repeated"),
    (b'{"instruction" : "q", "instruction": "r", "output": "a"}\n', "the key `instruction` is repeated"),
    (b'{"instruction": "q", "output": {"a": 1, "a": 2}}\n', "the key `a` is repeated"),
    (b'{"instruction": "q", "output": "a", "n": NaN}\n', "not JSON: NaN is no number there; write null"),
    (b'{"instruction": "\\ud800", "output": "a"}\n', "not JSON: "),
    (b'{"instruction": "q", "output": "a"\n', "not JSON: "),
    (b"[" * 100_000 + b"\n", "not JSON: "),
    (b'{"instruction": "q", "output": ' + b"[" * 300 + b"]" * 300 + b"}\n", "nested deeper than 254 levels"),
    (b'"text"\n', "a row is an object, not text"),
]


@pytest.mark.parametrize(("line", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_line_is_named_and_the_others_are_read(line: bytes, message: str, tmp_path: Path) -> None:
    done = run(tmp_path, {"a.jsonl": GOOD + line + GOOD + b"{}\n"})
    assert done.returncode == 1
    first, second, *_ = done.stderr.splitlines()
    assert first.startswith("error: a.jsonl:2: ")
    assert message in first
    assert second.startswith("error: a.jsonl:4: no `instruction`"), "what comes after is read all the same"


def test_text_that_only_looks_broken_goes_through(tmp_path: Path) -> None:
    rows = [
        {"instruction": 'say "instruction": twice', "output": '{"a": 1, "a" : 2}', "n": 1234567890123456789},
        {"instruction": "1e999", "output": "9" * 40, "n": 0.12345678901234567},
    ]
    assert run(tmp_path, {"a.jsonl": lines(rows)}).rows() == rows


FILES = [
    ("a.csv", b"instruction,input,output\nq1,,a1\nq2\n", "a.csv:3: 1 cell, and the header has 3"),
    ("a.csv", b"instruction,input,output\nq1,,\xff\n", "a.csv:2: not UTF-8"),
    ("a.csv", b'instruction,input,output\nq1,,"a"b\n', "a.csv:2: not CSV"),
    ("a.csv", b"instruction;input;output\nq;;a\n", "a.csv: its cells are separated by semicolons; commas are read"),
    ("a.csv", b"instruction,output,output\nq,a,b\n", "a.csv: the column `output` is repeated in its header"),
    ("a.jsonl", GOOD.decode().encode("utf-16"), "a.jsonl: this is UTF-16; save it as UTF-8"),
    ("a.json", b'[{"instruction": "q", "output": "a"},\n {"instruction": }]', "a.json:2: not JSON: expecting value"),
    ("a.json", b'[{"instruction": "q", "output": "a"},\n {"instruction": "q"', "a.json:2: not JSON"),
    ("a.parquet", b"PAR1 and more that is none", "a.parquet: this is no Parquet file that can be read"),
    ("a.jsonl.gz", gzip.compress(lines(ROWS).encode())[:-20], "a.jsonl.gz: cannot be read: "),
    ("a.jsonl.gz", b"not packed", "a.jsonl.gz: cannot be read: "),
    ("a.jsonl.xz", b"not packed", "a.jsonl.xz: cannot be read: "),
    ("a.jsonl.zst", b"not packed", "a.jsonl.zst: cannot be read: "),
]


def test_lines_of_text_are_rows(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.txt": "one\r\n\n  two\n"}, format="text", columns={"prompt": "text"})
    assert done.rows() == [{"text": "one"}, {"text": "  two"}]


@pytest.mark.parametrize(
    ("name", "content", "message"), FILES, ids=[f"{name}: {message[-20:]}" for name, _, message in FILES]
)
def test_a_broken_file_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    done = run(tmp_path, {name: content})
    assert done.returncode == 1
    assert f"error: {message}" in done.stderr
    assert not (tmp_path / "10-d" / "train.jsonl").exists()


def test_a_file_that_changes_between_the_readings_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftdsl.runtime.data import preparing

    def shorter(*arguments: Any) -> Any:
        (tmp_path / "a.jsonl").write_text(lines(numbered(3)), encoding="utf-8")
        return choose(*arguments)

    choose = preparing.choose
    monkeypatch.setattr(preparing, "choose", shorter)
    done = run(tmp_path, {"a.jsonl": lines(numbered(9))})
    assert done.returncode == 1
    assert "a.jsonl changed while it was read" in done.stderr
    assert not list((tmp_path / "10-d").glob("*train*")), "nothing half-written"


def test_a_data_set_of_a_hub_that_is_nowhere_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run(tmp_path, {}, sources=[{"hub": "hf", "id": "nobody/nothing"}])
    assert done.returncode == 1
    assert "error: nobody/nothing: " in done.stderr
    assert "neither from the hub nor from the cache" in done.stderr or "which this Python does not have" in done.stderr
