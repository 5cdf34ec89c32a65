"""The data stage's own program, run as it runs: by path, under a plain Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

PROGRAM = ROOT / "ftdsl" / "runtime" / "data.py"
CHAT = {"role": "from", "content": "value", "user": "human", "assistant": "gpt", "tool": "observation",
        "call": "function_call", "system": "system"}  # fmt: skip
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}


def run(folder: Path, rows: dict[str, str], **spec: Any) -> subprocess.CompletedProcess[str]:
    for name, text in rows.items():
        (folder / name).write_text(text, encoding="utf-8")
    whole = {
        "stage": "10-d", "where": "r.ft:1", "format": "alpaca", "columns": ALPACA, "roles": {}, "drop": ["bad_roles"],
        "dedupe": "none", "seed": 42, "holdout": {},
        "sources": [{"path": name, "limit": None, "sample": None, "repeat": 1, "where": "r.ft:2"} for name in rows],
    } | spec  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(whole), encoding="utf-8")
    command = [sys.executable, "-I", "-S", str(PROGRAM), "spec.json"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def numbered(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"instruction": f"q{n}", "input": "", "output": f"a{n}"} for n in range(start, start + count)]


def split(folder: Path, name: str) -> list[str]:
    return (folder / "10-d" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


def test_rows_go_through_unchanged(tmp_path: Path) -> None:
    rows = [*numbered(3), {"instruction": "ü", "input": "", "output": "雪", "more": [1, {"x": None}]}]
    done = run(tmp_path, {"a.jsonl": lines(rows)})
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in split(tmp_path, "train")] == rows


def test_an_array_is_read_like_lines(tmp_path: Path) -> None:
    rows = numbered(5)
    assert run(tmp_path, {"a.json": json.dumps(rows, indent=2)}).returncode == 0
    assert [json.loads(line) for line in split(tmp_path, "train")] == rows


BAD = [
    ("alpaca", ALPACA, {"instruction": "q", "input": ""}, "no `output`"),
    ("alpaca", ALPACA, {"instruction": 3, "input": "", "output": "a"}, "`instruction` is text, not a number"),
    ("alpaca", ALPACA, ["q", "a"], "a row is an object, not a list"),
    ("alpaca", ALPACA, {"instruction": "q", "input": "", "output": " "}, "`output` is empty"),
    ("text", {"prompt": "text"}, {"txt": "q"}, "no `text`; this row has `txt`"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": []}, "is a list of turns"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"from": "user", "value": "q"}]}, "by `user`; known: human"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"role": "human", "value": "q"}]}, "turn 1 has no `from`"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"from": "human", "value": 1}]}, "no text in `value`"),
    ("preference-alpaca", ALPACA | {"chosen": "chosen", "rejected": "rejected"},
     {"instruction": "q", "chosen": "a"}, "no `rejected`"),
    ("kto-alpaca", ALPACA | {"label": "label"},
     {"instruction": "q", "output": "a", "label": "yes"}, "true or false, not text"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "columns", "row", "said"), BAD, ids=[case[3] for case in BAD])
def test_a_bad_row_is_named_with_file_and_line(
    format: str, columns: dict[str, str], row: Any, said: str, tmp_path: Path
) -> None:
    done = run(tmp_path, {"a.jsonl": lines([row])}, format=format, columns=columns, roles=CHAT)
    assert done.returncode == 1
    assert f"error: a.jsonl:1: {said}" in done.stderr or ("a.jsonl:1" in done.stderr and said in done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "10-d" / "train.jsonl").exists(), "no half result"


def test_errors_are_counted_and_capped(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.jsonl": lines([{"x": 1}] * 50) + "{not json\n"})
    assert done.returncode == 1
    assert done.stderr.count("error: a.jsonl") == 20
    assert "31 more" in done.stderr


def test_the_split_depends_on_content_alone(tmp_path: Path) -> None:
    """Not on the order of files or rows, nor on what other rows there are; and equal rows never part."""
    holdout = {"eval": {"share": 0.2}, "test": {"share": 0.1}, "seed": 7}
    first, second = numbered(300), numbered(300, 300)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    assert run(one, {"a.jsonl": lines(first), "b.jsonl": lines(second)}, holdout=holdout).returncode == 0
    assert (
        run(two, {"a.jsonl": lines(second[::-1] + second), "b.jsonl": lines(first[::-1])}, holdout=holdout).returncode
        == 0
    )
    for name in ("train", "eval", "test"):
        assert set(split(one, name)) == set(split(two, name))
        others = {line for other in ("train", "eval", "test") if other != name for line in split(two, other)}
        assert not others & set(split(two, name)), "no row in both"
    assert 80 < len(split(one, "eval")) < 160
    assert 30 < len(split(one, "test")) < 90


def test_another_seed_another_split(tmp_path: Path) -> None:
    parts = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        run(folder, {"a.jsonl": lines(numbered(100))}, holdout={"eval": {"count": 10}, "seed": seed})
        parts.append(set(split(folder, "eval")))
        assert len(parts[-1]) == 10
    assert parts[0] != parts[1]


def test_bad_roles_are_dropped_and_counted_or_refused(tmp_path: Path) -> None:
    good = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    odd = {"conversations": [{"from": "gpt", "value": "q"}, {"from": "gpt", "value": "a"}]}
    shape = {"format": "sharegpt", "columns": {"messages": "conversations"}, "roles": CHAT}
    done = run(tmp_path, {"a.jsonl": lines([good, odd])}, **shape)
    assert done.returncode == 0, done.stderr
    assert "dropped: 1 bad_roles" in done.stdout
    assert json.loads((tmp_path / "10-d" / "report.json").read_text(encoding="utf-8"))["dropped"] == {"bad_roles": 1}
    assert run(tmp_path, {"a.jsonl": lines([good, odd])}, drop=[], **shape).returncode == 1


def test_dedupe_limit_sample_repeat(tmp_path: Path) -> None:
    assert run(tmp_path, {"a.jsonl": lines(numbered(10) * 3)}, dedupe="exact").returncode == 0
    assert len(split(tmp_path, "train")) == 10
    for options, count in (({"limit": 4}, 4), ({"sample": 6}, 6), ({"sample": 15}, 15), ({"repeat": 3}, 30)):
        source = {"path": "a.jsonl", "limit": None, "sample": None, "repeat": 1, "where": ""} | options
        assert run(tmp_path, {"a.jsonl": lines(numbered(10))}, sources=[source]).returncode == 0
        assert len(split(tmp_path, "train")) == count


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.jsonl": ""})
    assert done.returncode == 1
    assert "no rows are left" in done.stderr


def test_no_file_is_an_error(tmp_path: Path) -> None:
    source = {"path": "inputs/no.jsonl", "limit": None, "sample": None, "repeat": 1, "where": ""}
    done = run(tmp_path, {}, sources=[source])
    assert done.returncode == 1
    assert "error: inputs/no.jsonl: there is no such file" in done.stderr


def test_csv_is_read_by_its_header(tmp_path: Path) -> None:
    text = 'instruction,input,output\nq1,,"a, 1"\n"q\n2",,a2\n'
    done = run(tmp_path, {"a.csv": text})
    assert done.returncode == 0, done.stderr
    assert json.loads(split(tmp_path, "train")[0]) == {"instruction": "q1", "input": "", "output": "a, 1"}
    assert json.loads(split(tmp_path, "train")[1])["instruction"] == "q\n2"


def test_a_short_csv_row_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.csv": "instruction,input,output\nq1,,a1\nq2\n"})
    assert done.returncode == 1
    assert "error: a.csv:3: as many cells as the header has" in done.stderr


def test_parquet_without_pyarrow_is_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.parquet": "PAR1"})
    assert done.returncode == 1
    assert "read with pyarrow" in done.stderr
    assert "Traceback" not in done.stderr
