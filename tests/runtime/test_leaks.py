"""Rows that are evaluated with and trained on: found across data sets and formats, by text, by question, by likeness."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from pathlib import Path
from typing import Any

from ftdsl.runtime.data.leaks import compare
from tests.runtime import planted
from tests.runtime.stage import ALPACA, CHAT, lines


def leaks(folder: Path, train: list[Any], evaluated: list[Any], **spec: Any) -> tuple[int, str, dict[str, Any]]:
    (folder / "train.jsonl").write_text(lines(train), encoding="utf-8")
    (folder / "eval.jsonl").write_text(lines(evaluated), encoding="utf-8")
    of_chats = {"format": "sharegpt", "columns": {"messages": "conversations"}, "roles": CHAT}
    of_questions = {"format": "alpaca", "columns": ALPACA, "roles": {}}
    shape = of_chats if "conversations" in evaluated[0] else of_questions
    whole = {
        "stage": "30-sft", "where": "r.ft:9", "leak": "warn", "skipped": [],
        "train": [{"name": "t", "path": "train.jsonl", **of_questions}], "eval": [{"name": "e", "path": "eval.jsonl", **shape}],
    } | spec  # fmt: skip
    err, home = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(err):
            code = compare(whole)
    finally:
        os.chdir(home)
    report: dict[str, Any] = json.loads((folder / "30-sft" / "leaks-report.json").read_bytes())
    return code, err.getvalue(), report["evaluated"][0]


def asked(question: str, answer: str) -> dict[str, str]:
    return {"instruction": question, "output": answer}


def chat(question: str, answer: str) -> dict[str, Any]:
    turns = [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": question},
        {"from": "gpt", "value": answer},
    ]
    return {"conversations": turns}


TRAIN = [
    asked("How old is the moon?", "Old."),
    asked("Where does the Rhine end?", "In the sea."),
    asked("Go on.", "So I do."),
]


def test_the_same_text_and_the_same_question_are_told_apart_across_formats(tmp_path: Path) -> None:
    evaluated = [chat("how old  is the moon?", "old."), chat("Where does the Rhine end?", "Nowhere."),
                 chat("Go on.", "No."), chat("Who are you now?", "Me.")]  # fmt: skip
    code, message, found = leaks(tmp_path, TRAIN, evaluated)
    assert code == 0
    assert found["found"] == {"the same text": 1, "the same question": 1}, "a short question gives nothing away"
    assert "warning: r.ft:9: 2 of 4 rows of `e` are trained on too" in message
    assert "eval.jsonl:1 has the same text as train.jsonl:1" in message


def test_stop_ends_the_stage_and_nothing_found_is_said(tmp_path: Path) -> None:
    assert leaks(tmp_path, TRAIN, TRAIN[:1], leak="stop")[0] == 1
    code, message, _ = leaks(tmp_path, TRAIN, [asked("Is this another question?", "Yes.")], leak="stop")
    assert (code, message) == (0, "leaks: none in e\n")


def test_near_duplicates_where_they_are_asked_for(tmp_path: Path) -> None:
    rng = random.Random(1)
    pairs = [planted.pair(rng, 0.95) for _ in range(40)]
    far = [planted.pair(rng, 0.5) for _ in range(40)]
    train = [asked(one, "yes") for one, _ in (*pairs, *far)]
    evaluated = [asked(other, "yes") for _, other in (*pairs, *far)]
    assert leaks(tmp_path, train, evaluated)[2]["found"] == {}
    assert leaks(tmp_path, train, evaluated, near=0.85)[2]["found"] == {"almost the same text": 40}
