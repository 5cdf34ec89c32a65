"""Rows that a recipe names are left out with its reason; where rows of a part came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftdsl.runtime.data.origins import hash_of, origins
from tests.command import ftc
from tests.conftest import Outcome
from tests.runtime.stage import Done, lines, numbered, run

ROWS = numbered(20)


def dropped(done: Done) -> list[tuple[Any, ...]]:
    return [(row["why"], row["file"], row.get("line"), row.get("reason")) for row in done.dropped]


def test_a_row_is_named_by_its_content_whatever_its_line(tmp_path: Path) -> None:
    mark = hash_of(ROWS[4])
    entry = {"where": "a.jsonl:99", "hash": mark, "reason": "garbage, spike at step 3"}
    done = run(tmp_path, {"a.jsonl": lines(ROWS)}, drop_rows=[entry])
    assert dropped(done) == [("named", "a.jsonl", 5, "garbage, spike at step 3")]
    assert ROWS[4] not in done.rows()
    assert len(done.rows()) == 19


def test_equal_rows_go_with_it(tmp_path: Path) -> None:
    reordered = dict(reversed(ROWS[4].items()))
    files = {"a.jsonl": lines(ROWS), "b.jsonl": lines([ROWS[7], reordered])}
    done = run(tmp_path, files, drop_rows=[{"where": "a.jsonl:5", "hash": hash_of(ROWS[4])}])
    assert dropped(done) == [("named", "a.jsonl", 5, None), ("named", "b.jsonl", 2, None)]


def test_a_row_is_named_by_its_line(tmp_path: Path) -> None:
    text = "\n" + lines(ROWS)  # a blank line is a line
    done = run(tmp_path, {"a.jsonl": text}, drop_rows=[{"where": "a.jsonl:3", "reason": "why not"}])
    assert dropped(done) == [("named", "a.jsonl", 3, "why not")]
    assert ROWS[1] not in done.rows()


def test_a_row_of_an_array(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.json": json.dumps(ROWS)}, drop_rows=[{"where": "a.json:1: row 6"}])
    assert ROWS[5] not in done.rows()
    assert len(done.rows()) == 19


@pytest.mark.parametrize(
    "entry", [{"where": "a.jsonl:21"}, {"where": "b.jsonl:1"}, {"where": "a.jsonl:1", "hash": "0123456789ab"}]
)
def test_a_row_that_is_not_there_is_a_warning(entry: dict[str, str], tmp_path: Path) -> None:
    done = run(tmp_path, {"a.jsonl": lines(ROWS)}, drop_rows=[entry])
    assert "there is no such row" in done.stderr
    assert len(done.rows()) == 20


def test_where_rows_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mixture of files, with a part held out: each row's file and line hold it."""
    files = {"a.jsonl": lines(ROWS[:12]), "b.json": json.dumps(ROWS[12:], indent=1)}
    done = run(tmp_path, files, holdout={"eval": {"count": 4}, "seed": 1}, mix="all")
    spec = {"stage": "10-d", "sources": [{"path": name} for name in files]}
    monkeypatch.chdir(tmp_path)
    for part in ("train", "eval"):
        rows = done.rows(part)
        found = origins(spec, part, range(len(rows)))
        assert [row["text"] for row in found] == rows
        for row in found:
            name, _, line = row["where"].partition(":")
            content = (tmp_path / name).read_text(encoding="utf-8").splitlines()
            assert row["hash"] == hash_of(row["text"])
            assert row["text"]["instruction"] in "\n".join(content[int(line.partition(":")[0]) - 1 :][:6])


def test_a_source_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, {"a.jsonl": lines(ROWS)})
    (tmp_path / "a.jsonl").unlink()
    monkeypatch.chdir(tmp_path)
    (row,) = origins({"stage": "10-d", "sources": [{"path": "a.jsonl"}]}, "train", [3])
    assert (row["where"], row["text"]) == ("", ROWS[3])


STAGE = """\
engine = llamafactory("0.9.5")
hardware {{ gpu = none, count = 1 }}
data d {{ source = file("rows.jsonl"), drop_rows = ["{text}"] }}
sft {{ model = hf("Qwen/Qwen3-0.6B"), template = qwen3, data = d, duration = 1 epoch, lora {{}} }}
"""


@pytest.mark.parametrize(
    "text", ["rows.jsonl", "rows.jsonl:x", "rows.jsonl:1 #xyz garbage", "rows.jsonl:1 #0123 short"]
)
def test_what_names_no_row_is_an_error(text: str, checked: Callable[..., Outcome]) -> None:
    outcome = checked(STAGE.format(text=text), {"rows.jsonl": lines(ROWS)})
    assert any("is no place of a row" in diagnostic.message for diagnostic in outcome.found)


@pytest.mark.parametrize(("text", "entry"), {
    "rows.jsonl:7": {"where": "inputs/rows.jsonl:7"},
    "rows.jsonl:7 why not": {"where": "inputs/rows.jsonl:7", "reason": "why not"},
    "a b.json:1: row 3 #0123456789ab 4 : 5": {"where": "inputs/a b.json:1: row 3", "hash": "0123456789ab", "reason": "4 : 5"},
    "a.parquet: row 3 #0123456789ab": {"where": "inputs/a.parquet: row 3", "hash": "0123456789ab"},
}.items())  # fmt: skip
def test_an_entry_is_read(text: str, entry: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(lines(ROWS), encoding="utf-8")
    (tmp_path / "r.ft").write_text(STAGE.format(text=text), encoding="utf-8")
    assert ftc("compile", "r.ft", "-o", "build", cwd=tmp_path).stderr.count("drop_rows") == 0
    spec = json.loads(next((tmp_path / "build").glob("*-d/data.json")).read_text(encoding="utf-8"))
    assert spec["drop_rows"] == [entry]
