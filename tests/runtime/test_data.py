"""The data stage: rows checked, split, sampled, left out; every fault named with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.runtime.stage import ALPACA, CHAT, OPENAI, lines, numbered, run


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
    ("alpaca", ALPACA, "q", "a row is an object, not text"),
    ("alpaca", ALPACA, {"instruction": "q", "input": "", "output": " "}, "`output` is empty"),
    ("text", {"prompt": "text"}, {"txt": "q"}, "no `text`; this row has `txt`"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": []}, "`conversations` has no turns"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": "q"}, "is a list of turns, not text"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"from": "user", "value": "q"}]}, "by `user`; known: human"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"from": "human", "value": ""}]}, "turn 1 is empty"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"from": "human", "value": None}]}, "turn 1 is empty"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"role": "human", "value": "q"}]}, "turn 1 has no `from`"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [{"from": "human", "value": 1}]}, "no text in `value`"),
    ("preference-alpaca", ALPACA | {"chosen": "chosen", "rejected": "rejected"},
     {"instruction": "q", "chosen": "a"}, "no `rejected`"),
    ("kto-alpaca", ALPACA | {"label": "label"},
     {"instruction": "q", "output": "a", "label": "yes"}, "true or false, not text"),
    ("alpaca", ALPACA | {"tools": "tools"}, {"instruction": "q", "output": "a", "tools": "none"}, "holds a JSON list of tools"),
    ("alpaca", ALPACA | {"images": "images"}, {"instruction": "<image>", "output": "a", "images": ["no.png"]},
     "there is no file `no.png`"),
    ("alpaca", ALPACA | {"images": "images"}, {"instruction": "look", "output": "a", "images": ["no.png"]},
     "1 in `images`, and 0 <image> in the text"),
    ("sharegpt", {"messages": "conversations"}, {"conversations": [
        {"from": "human", "value": "q"}, {"from": "function_call", "value": "call me"}]}, "turn 2 calls a tool, and is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "columns", "row", "expected"), BAD, ids=[case[3] for case in BAD])
def test_a_bad_row_is_named_with_file_and_line(
    format: str, columns: dict[str, str], row: Any, expected: str, tmp_path: Path
) -> None:
    done = run(tmp_path, {"a.jsonl": lines([row])}, format=format, columns=columns, roles=CHAT, drop=[])
    assert done.returncode == 1
    assert done.stderr.startswith("error: a.jsonl:1: ")
    assert expected in done.stderr
    assert not (tmp_path / "10-d" / "train.jsonl").exists(), "no half result"


def test_errors_are_counted_and_capped(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.jsonl": lines([{"x": 1}] * 50) + "{not json\n"})
    assert done.returncode == 1
    assert done.stderr.count("error: a.jsonl") == 20
    assert "31 more; of each kind: 50 missing, 1 json" in done.stderr
    end = json.loads((tmp_path / "10-d" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert end["message"].startswith("a.jsonl:1: no `instruction`")
    assert "(and 50 more)" in end["message"]


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
    assert "error: a.jsonl: there are no rows in it" in done.stderr
    done = run(tmp_path, {"a.jsonl": lines(numbered(1))}, holdout={"eval": {"share": 0.5}, "seed": 42})
    assert "error: r.ft:1: no row is left for `eval`: 1 were read, 1 in `train`" in done.stderr


def test_a_named_column_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, {"a.jsonl": lines(numbered(9))}, columns={"prompt": "instruction", "system": "sytem"})
    assert "error: r.ft:1: no row has a column `sytem`" in done.stderr


def test_no_file_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, {}, sources=[{"path": "inputs/no.jsonl"}])
    assert done.returncode == 1
    assert "error: inputs/no.jsonl: there is no such file" in done.stderr


def test_tools_calls_and_system_prompts_of_chats(tmp_path: Path) -> None:
    """What the engine takes of the OpenAI format goes through: several tools answering, calls beside text."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    turns = [
        {"role": "system", "content": "s"}, {"role": "user", "content": "q"}, call,
        {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "a"},
    ]  # fmt: skip
    row = {"messages": turns, "tools": '[{"name": "f"}]'}
    shape = {"format": "openai", "columns": {"messages": "messages", "tools": "tools"}, "roles": OPENAI}
    assert run(tmp_path, {"a.jsonl": lines([row])}, **shape).rows() == [row]


def test_a_column_that_only_later_rows_have_is_said(tmp_path: Path) -> None:
    rows = [*numbered(2), {"instruction": "q", "output": "a", "system": "Be kind."}]
    done = run(tmp_path, {"a.jsonl": lines(rows)})
    assert "1 rows have `system`, which nothing reads" in done.stderr
    printed = run(tmp_path, {"a.jsonl": lines(rows)}, columns=ALPACA | {"system": "system"})
    assert "which nothing reads" not in printed.stderr


def test_what_is_dropped_can_be_looked_at(tmp_path: Path) -> None:
    rows = [*numbered(3), {"instruction": " ", "output": "a"}, *numbered(2)]
    done = run(tmp_path, {"a.jsonl": lines(rows)}, dedupe="exact", drop=["empty"])
    assert done.report["dropped"] == {"empty": 1, "duplicates": 2}
    assert done.dropped[0] == {"why": "empty", "file": "a.jsonl", "line": 4, "row": rows[3]}
    assert done.dropped[1]["like"] == "a.jsonl:1"


def test_a_part_with_files_of_its_own_keeps_its_rows(tmp_path: Path) -> None:
    """Rows that are held out elsewhere are not trained on: dropped where copies are, else said."""
    files = {"a.jsonl": lines(numbered(10)), "held.jsonl": lines(numbered(4, 8))}
    spec = {"sources": [{"path": "a.jsonl"}], "holdout": {"eval": {"sources": [{"path": "held.jsonl"}]}, "seed": 1}}
    done = run(tmp_path, files, dedupe="exact", **spec)
    assert done.report["splits"] == {"train": 8, "eval": 4}
    assert done.report["dropped"] == {"held_out": 2}
    done = run(tmp_path, files, **spec)
    assert done.report["splits"] == {"train": 10, "eval": 4}
    assert "2 rows of `train` are in the held-out files too" in done.stderr


def test_the_program_runs_beside_a_run(tmp_path: Path) -> None:
    """As a launch script starts it: a folder `runtime` in the run folder, nothing of ftdsl."""
    (tmp_path / "runtime").symlink_to(ROOT / "ftdsl" / "runtime")
    (tmp_path / "a.jsonl").write_text(lines(numbered(5)), encoding="utf-8")
    spec = {
        "stage": "10-d", "where": "r.ft:1", "format": "alpaca", "columns": ALPACA, "roles": {}, "drop": [],
        "dedupe": "none", "seed": 1, "sources": [{"path": "a.jsonl"}],
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    code = (
        "import sys; sys.modules['ftdsl'] = None; import runpy; runpy.run_module('runtime.data', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, "spec.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "rows: 5 train\ncard: 10-d/card.html\n"
