"""The first rows of data, looked at for a recipe, a YAML and a script alike, before anything is started."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from typing import Any

import pytest

from tests.conftest import ftc
from tests.importers.test_kinds import FLAGS, YAML, Workspace

ROW = {"instruction": "q", "input": "", "output": "a"}
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
RECIPE = """hardware {{ gpu = none, count = 1 }}
{data}{kind} {{ model = hf("Qwen/Qwen2.5-3B-Instruct"), data = {source}, template = qwen, max_len = {max_len}, duration = 1 epoch,
  lora {{ rank = 8 }}, optim {{ lr = 1e-4 }}, batch {{ global = 4 }} }}
"""


@pytest.fixture
def here(tmp_path: Any) -> Workspace:
    return Workspace(tmp_path)


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def direct(here: Workspace, file: str, kind: str = "sft", max_len: int = 2048) -> dict[str, str]:
    here.write("direct.ft", RECIPE.format(data="", kind=kind, source=f'file("data/{file}")', max_len=max_len))
    return here.codes("direct.ft")


def staged(here: Workspace, file: str, kind: str = "sft", max_len: int = 2048, options: str = "") -> dict[str, str]:
    data = f'data rows {{ source = file("data/{file}"){options} }}\n'
    here.write("staged.ft", RECIPE.format(data=data, kind=kind, source="rows", max_len=max_len))
    return here.codes("staged.ft")


def files(here: Workspace, file: str, stage: str = "sft", **entry: Any) -> list[dict[str, str]]:
    """What is said of a YAML and of a script."""
    here.write("data/dataset_info.json", json.dumps({"rows": {"file_name": file, **entry}}))
    here.write("a.yaml", YAML.replace("stage: sft", f"stage: {stage}"))
    here.write("run.sh", f"llamafactory-cli train {FLAGS.replace('--stage sft', f'--stage {stage}')}\n")
    return [here.codes("a.yaml"), here.codes("run.sh")]


UNREADABLE = {
    "empty.jsonl": (b"", "there are no rows in it"),
    "blank.jsonl": (b"\n \n\n", "there are no rows in it"),
    "empty.json": (b"[]", "there are no rows in it"),
    "gbk.jsonl": (
        json.dumps({**ROW, "output": "你好"}, ensure_ascii=False).encode("gbk") + b"\n",
        "line 1 is not UTF-8",
    ),
    "latin.csv": ("instruction,input,output\nq,,é\n".encode("latin-1"), "line 2 is not UTF-8"),
    "utf16.jsonl": (json.dumps(ROW).encode("utf-16"), "this is UTF-16"),
    "list.txt": (json.dumps([ROW] * 3, indent=1).encode(), "this is JSON"),
    "lines.txt": (lines(ROW, ROW), "this is JSON Lines"),
    "nested.json": (json.dumps({"data": [ROW]}).encode(), "the rows are inside `data`"),
    "cells.csv": (b"instruction;input;output\nq;;a\n", "separated by semicolons"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_cannot_be_read(name: str, here: Workspace) -> None:
    content, why = UNREADABLE[name]
    here.write("data/x", "")
    (here.folder / "data" / name).write_bytes(content)
    for codes in (direct(here, name), staged(here, name), *files(here, name)):
        assert why in codes.get("FT527", ""), codes
        assert len(codes) == 1, "one mistake, one message"


BROKEN = {
    "cut.jsonl": (lines(ROW, b'{"instruction": "q", "outp', ROW), ":2: not JSON"),
    "word.jsonl": (lines(ROW, ROW, b"nope"), ":3: not JSON"),
    "cut.json": (json.dumps([ROW] * 3, indent=1).encode()[:-20], "not JSON"),
    "open.json": (json.dumps([ROW] * 3).encode()[:-1], "the array is not closed"),
    "number.jsonl": (lines(ROW, {**ROW, "output": 3}), ":2: `output` is text, not a number"),
    "list.jsonl": (lines(ROW, {**ROW, "output": ["a"]}), ":2: `output` is text, not a list"),
    "other.jsonl": (lines(ROW, {"question": "q"}), ":2: no `instruction`"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_rows_at_which_a_run_stops(name: str, here: Workspace) -> None:
    content, why = BROKEN[name]
    here.write("data/x", "")
    (here.folder / "data" / name).write_bytes(content)
    for codes in (direct(here, name), staged(here, name), *files(here, name)):
        assert why in codes.get("FT511", ""), codes
        assert len(codes) == 1, codes
    assert not staged(here, name, options=", drop = [broken]"), "asked to be left out"


CHAT = {"formatting": "sharegpt"}
SILENT = {
    "an answer": ({**ROW, "output": ""}, {}, "`output` is empty", "empty"),
    "a null": ({**ROW, "output": None}, {}, "`output` is null", "empty"),
    "a turn": ({"conversations": [TURNS[0], {"from": "gpt", "value": " "}]}, CHAT, "turn 2 is empty", "empty"),
    "no turns": ({"conversations": []}, {"formatting": "sharegpt"}, "has no turns", "empty"),
    "order": ({"conversations": TURNS[::-1]}, {"formatting": "sharegpt"}, "speakers do not take turns: gpt, human", "bad_roles"),
    "odd": ({"conversations": TURNS[:1]}, {"formatting": "sharegpt"}, "speakers do not take turns: human", "bad_roles"),
    "a stranger": ({"conversations": [{"from": "user", "value": "q"}, TURNS[1]]}, CHAT, "by `user`", "bad_roles"),
}  # fmt: skip


@pytest.mark.parametrize("name", SILENT)
def test_rows_that_the_engine_passes_over(name: str, here: Workspace) -> None:
    """A warning where the engine reads them; a data stage wants them named, or is told to leave them out."""
    row, entry, why, word = SILENT[name]
    good = {"conversations": TURNS} if entry else ROW
    here.write("data/a.jsonl", lines(good, row, row, good).decode())
    for codes in (direct(here, "a.jsonl"), *files(here, "a.jsonl", **entry)):
        assert why in codes.get("FT525", ""), codes
        assert "2 of 4 rows" in codes["FT525"]
        assert len(codes) == 1
    codes = staged(here, "a.jsonl")
    assert why in codes["FT511" if word == "empty" else "FT525"], "what is left out by default is mentioned"
    assert not staged(here, "a.jsonl", options=f", drop = [{word}]")


def test_rows_far_longer_than_the_limit(here: Workspace) -> None:
    here.write("data/a.jsonl", lines(*[{**ROW, "instruction": "word " * 5000}] * 9).decode())
    for codes in (direct(here, "a.jsonl"), staged(here, "a.jsonl"), *files(here, "a.jsonl")):
        assert "9 of" in codes["FT505"], codes
    assert not direct(here, "a.jsonl", max_len=32768)


def test_text_that_fills_no_pack(here: Workspace) -> None:
    here.write("data/a.jsonl", lines(*[{"text": "six short notes"}] * 6).decode())
    columns = {"columns": {"prompt": "text"}}
    for codes in (
        direct(here, "a.jsonl", "pretrain"),
        staged(here, "a.jsonl", "pretrain"),
        *files(here, "a.jsonl", "pt", **columns),
    ):
        assert "all 6 rows together" in codes.get("FT526", ""), codes
    assert not direct(here, "a.jsonl", "pretrain", max_len=64)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
@pytest.mark.parametrize("good", [True, False])
def test_compressed_files(pack: Any, good: bool, here: Workspace) -> None:
    """A data stage unpacks them, and their rows are looked at; the engine reads none."""
    name = "a.jsonl" + {gzip.compress: ".gz", bz2.compress: ".bz2", lzma.compress: ".xz"}[pack]
    here.write("data/x", "")
    (here.folder / "data" / name).write_bytes(pack(lines(ROW, ROW if good else b"{")))
    codes = staged(here, name)
    assert not codes if good else ":2: not JSON" in codes["FT511"]
    if good:
        assert "put it into a `data` stage" in ftc("check", "direct.ft", cwd=here.folder).stdout or "FT012" in direct(
            here, name
        )
        assert all("FT518" in codes for codes in files(here, name))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": "a"},
            ]
        },
        {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "tools": [{"name": "f"}],
        },
    ],
)
def test_layouts_that_only_a_data_stage_converts(row: dict[str, Any], here: Workspace) -> None:
    here.write("data/a.jsonl", lines(row).decode())
    assert list(direct(here, "a.jsonl")) == ["FT012"]
    assert not staged(here, "a.jsonl")


def test_a_part_of_the_rows_is_mentioned(here: Workspace) -> None:
    here.write("data/a.jsonl", lines(*[ROW] * 50).decode())
    here.write("data/dataset_info.json", json.dumps({"rows": {"file_name": "a.jsonl"}}))
    here.write("a.yaml", YAML + "max_samples: 20\n")
    assert "20 of the 50 rows of `rows` are used" in here.checked("a.yaml")[1]


def test_an_entry_of_dataset_info_in_a_recipe(here: Workspace) -> None:
    here.write("data/a.jsonl", lines(ROW, b"{").decode())
    here.write("data/dataset_info.json", json.dumps({"rows": {"file_name": "a.jsonl"}}))
    source = 'file("data/dataset_info.json", entry = "rows")'
    here.write("r.ft", RECIPE.format(data="", kind="sft", source=source, max_len=2048))
    assert ":2: not JSON" in here.codes("r.ft").get("FT511", "")


@pytest.mark.parametrize(
    ("row", "entry", "wrong"),
    [
        ({"instruction": "q", "output": "a"}, {}, "no `input`"),
        ({"instruction": "q", "output": "a"}, {"columns": {"prompt": "instruction", "response": "output"}}, ""),
        (ROW, {"columns": {"prompt": "instruction", "response": "output", "system": "policy"}}, "no `policy`"),
        ({"conversations": TURNS}, CHAT | {"columns": {"messages": "conversations", "tools": "tools"}}, "no `tools`"),
        ({"conversations": TURNS}, CHAT, ""),
    ],
)
def test_columns_that_the_engine_looks_up_in_every_row(
    row: dict[str, Any], entry: dict[str, Any], wrong: str, here: Workspace
) -> None:
    """KeyError, though nothing needs them."""
    for name, content in {"a.jsonl": lines(row, row), "b.json": json.dumps([row]).encode()}.items():
        here.write(f"data/{name}", content.decode())
        for codes in files(here, name, **entry):
            assert wrong in codes.get("FT502", "") if wrong else not codes, codes
