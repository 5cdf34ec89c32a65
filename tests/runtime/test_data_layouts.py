"""Rows as other tools keep them: a compiled data stage reads them without `columns`, and writes what the engine reads."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ftdsl.runtime.data.preparing import prepare
from tests.conftest import ftc

RECIPE = """hardware {{ gpu = none, count = 1 }}
data rows {{ source = {source}{options} }}
{kind} {{ model = hf("Qwen/Qwen2.5-0.5B-Instruct"), template = qwen, data = rows, duration = 3 steps,
  lora {{ rank = 8 }}, optim {{ lr = 1e-4 }}, batch {{ global = 8 }} }}
"""


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


ASK, SAY = user("q"), bot("a")
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
LAYOUTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "TRL prompt and completion": ("sft", {"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "a"}),
    "TRL turns": ("sft", {"prompt": [ASK], "completion": [SAY]}, {"messages": [ASK, SAY]}),
    "TRL messages": ("sft", {"messages": [ASK, SAY]}, {"messages": [ASK, SAY]}),
    "TRL pairs": ("dpo", {"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "b"}),
    "TRL pairs of turns": (
        "dpo", {"prompt": [ASK], "chosen": [SAY], "rejected": [bot("b")]},
        {"messages": [ASK], "chosen": SAY, "rejected": bot("b")}),
    "TRL pairs without prompt": (
        "reward", {"chosen": [ASK, SAY], "rejected": [ASK, bot("b")]}, {"messages": [ASK], "chosen": SAY, "rejected": bot("b")}),
    "TRL labels": ("kto", {"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "completion": "a", "label": True}),
    "TRL labels of turns": (
        "kto", {"prompt": [ASK], "completion": [SAY], "label": False}, {"messages": [ASK, SAY], "label": False}),
    "OpenAI pairs": (
        "dpo", {"input": {"messages": [ASK]}, "preferred_output": [SAY], "non_preferred_output": [bot("b")]},
        {"messages": [ASK], "chosen": SAY, "rejected": bot("b")}),
    "OpenAI tools": ("sft", {"messages": [ASK, SAY], "tools": [TOOL]}, {"messages": [ASK, SAY], "tools": json.dumps([TOOL])}),
    "content parts": (
        "sft", {"messages": [user([{"type": "text", "text": "q"}]), bot([{"type": "text", "text": "a"}])]},
        {"messages": [ASK, SAY]}),
    "pictures": (
        "sft", {"messages": [user([{"type": "image_url", "image_url": {"url": "p.png"}}, {"type": "text", "text": "q"}]), SAY]},
        {"messages": [user("<image>q"), SAY], "images": ["p.png"]}),
    "sharegpt with OpenAI's roles": ("sft", {"conversations": [ASK, SAY]}, {"conversations": [ASK, SAY]}),
    "messages with sharegpt's roles": (
        "sft", {"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
}  # fmt: skip


def prepared(folder: Path, source: str, kind: str = "sft", options: str = "") -> tuple[int, str, list[Any]]:
    """(status, stderr, rows of the train part) of the data stage of a recipe compiled in the folder."""
    (folder / "r.ft").write_text(RECIPE.format(source=source, kind=kind, options=options), encoding="utf-8")
    (folder / "p.png").write_bytes(b"png")
    done = ftc("compile", "r.ft", "-o", "build", cwd=folder)
    assert done.returncode == 0, done.stderr
    build = next((folder / "build").rglob("data.json")).parent.parent
    spec = json.loads((build / "10-rows" / "data.json").read_text(encoding="utf-8"))
    err, home = io.StringIO(), Path.cwd()
    os.chdir(build)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            status = prepare(spec)
    finally:
        os.chdir(home)
    train = build / "10-rows" / "train.jsonl"
    return (
        status,
        err.getvalue(),
        [json.loads(line) for line in train.read_bytes().splitlines()] if train.exists() else [],
    )


def entry(folder: Path) -> dict[str, Any]:
    file = next(path for path in (folder / "build").rglob("dataset_info.json"))
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.slow
def test_layouts_of_other_tools(layout: str, tmp_path: Path) -> None:
    kind, row, written = LAYOUTS[layout]
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    status, err, rows = prepared(tmp_path, 'file("a.jsonl")', kind)
    assert (status, rows) == (0, [written]), err
    columns = entry(tmp_path)["columns"]
    assert set(columns.values()) <= set(written), "the engine would look for columns that are not there"
    assert {"prompt", "messages"} & set(columns)


def test_a_format_per_source(tmp_path: Path) -> None:
    """Columns, turns of both spellings, pictures: all become turns of one."""
    files = {
        "a.jsonl": {"instruction": "q", "input": "more", "output": "a", "history": [["x", "y"]], "system": "s"},
        "b.jsonl": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        "c.jsonl": {"messages": [ASK, SAY]},
        "d.jsonl": {"prompt": "q", "completion": "a"},
    }
    for name, row in files.items():
        (tmp_path / name).write_text(json.dumps(row) + "\n", encoding="utf-8")
    status, err, rows = prepared(tmp_path, "[" + ", ".join(f'file("{name}")' for name in files) + "]")
    assert status == 0, err
    system = {"role": "system", "content": "s"}
    assert [row["messages"] for row in rows] == [
        [system, user("x"), bot("y"), user("q\nmore"), SAY], [ASK, SAY], [ASK, SAY], [ASK, SAY],
    ]  # fmt: skip
    assert entry(tmp_path)["tags"]["user_tag"] == "user"


def test_a_format_named_at_one_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"instruction": "q", "output": "a"}) + "\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": [ASK, SAY]}) + "\n", encoding="utf-8")
    status, err, rows = prepared(tmp_path, '[file("a.jsonl", format = alpaca), file("b.jsonl", format = openai)]')
    assert (status, [row["messages"] for row in rows]) == (0, [[ASK, SAY], [ASK, SAY]]), err


@pytest.mark.parametrize(
    "content", [b'[{"prompt": "q", "completion": "a"}]', b'[\n{"prompt": "q",\n"completion": "a"}\n]']
)
def test_an_array_in_jsonl(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("a.jsonl", "b.jsonl.gz"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes((tmp_path / name).read_bytes())
        status, err, rows = prepared(folder, f'file("{name}")')
        assert (status, rows) == (0, [{"prompt": "q", "completion": "a"}]), err


GOOD = json.dumps({"messages": [ASK, SAY]})
BAD_ROWS = {
    "empty": [
        {"messages": [ASK, bot("")]},
        {"messages": [user(" "), SAY]},
        {"messages": [ASK, bot(None)]},
        {"messages": []},
    ],
    "bad_roles": [{"messages": [ASK, {"role": "bot", "content": "a"}]}, {"messages": [SAY, ASK]}, {"messages": [ASK]}],
    "broken": [
        {"other": 1},
        {"messages": 3},
        {"messages": [{"content": "q"}]},
        [1],
        "text",
        {"messages": [ASK, bot(3)]},
    ],
}


@pytest.mark.parametrize("word", BAD_ROWS)
def test_each_word_of_drop_drops_what_it_means(word: str, tmp_path: Path) -> None:
    bad = BAD_ROWS[word]
    broken = ['{"messages": [', "{}", "nan"] if word == "broken" else []
    lines = [GOOD, *map(json.dumps, bad), *broken, GOOD]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    status, err, rows = prepared(tmp_path, 'file("a.jsonl")', options=f", drop = [{word}]")
    assert (status, len(rows)) == (0, 2), err
    assert f"{len(bad) + len(broken)} {word}" in err, "nothing is dropped unmentioned"
    report = json.loads(next((tmp_path / "build").rglob("report.json")).read_text(encoding="utf-8"))
    assert report["dropped"] == {word: len(bad) + len(broken)}
    dropped = next((tmp_path / "build").rglob("dropped.jsonl")).read_bytes().splitlines()
    assert [json.loads(line)["why"] for line in dropped] == [word] * (len(bad) + len(broken))


@pytest.mark.parametrize(("at_most", "fits"), [("10%", True), ("4%", False)])
def test_a_budget_for_what_is_dropped(at_most: str, fits: bool, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join([*[GOOD] * 19, "{}"]) + "\n", encoding="utf-8")
    status, err, rows = prepared(tmp_path, 'file("a.jsonl")', options=f", drop = [broken({at_most})]")
    assert (status == 0) == fits, err
    assert len(rows) == (19 if fits else 0)
    assert fits or "1 of 20 rows would be left out (broken), more than 4 %" in err


def test_cells_that_are_too_few_are_broken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion\nq,a\nq\nq,a\n", encoding="utf-8")
    status, err, rows = prepared(tmp_path, 'file("a.csv")', options=", drop = [broken]")
    assert (status, len(rows)) == (0, 2), err
    assert "1 broken" in err


@pytest.mark.parametrize("history", [5, "text", [["q"]], [["q", 3]], [5], {"q": "a"}])
def test_a_history_that_is_none_is_an_error_of_its_row(history: object, tmp_path: Path) -> None:
    row = {"instruction": "q", "input": "", "output": "a", "history": history}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    text = RECIPE.format(source='file("a.jsonl", format = alpaca)', options="", kind="sft")
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    checked = ftc("check", "r.ft", cwd=tmp_path)
    assert checked.returncode == 1
    assert "a.jsonl:1: `history` is a list of [question, answer]" in checked.stdout


def test_a_column_without_a_name_is_no_history(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"instruction": "q", "output": "a", "": 5}) + "\n", encoding="utf-8")
    status, err, rows = prepared(tmp_path, 'file("a.jsonl", format = alpaca)')
    assert (status, len(rows)) == (0, 1), err
