"""Edits of a recipe's text: values where they stand, lines of their own, blocks opened and taken out; the rest stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.language.edit import setting
from ftdsl.language.parser import parse
from ftdsl.source import Source


@pytest.mark.parametrize(
    ("before", "key", "text", "after"),
    [
        ("sft { lr = 1 }", "lr", "2", "sft { lr = 2 }"),
        ("sft {\n  optim { lr = 1 } # why\n}", "optim.lr", "2", "sft {\n  optim { lr = 2 } # why\n}"),
        ("sft {\n  optim { lr = 1 }\n}", "optim.clip", "2", "sft {\n  optim { clip = 2, lr = 1 }\n}"),
        ("sft {\n  optim.lr = 1\n}", "optim.lr", "2", "sft {\n  optim.lr = 2\n}"),
        ("sft {\n    a = 1\n}", "optim.lr", "2", "sft {\n    optim.lr = 2\n    a = 1\n}"),
        ("sft { }", "batch.micro", "2", "sft { batch.micro = 2 }"),
        ("sft {\n  a = 1\n}", "quantize", "", "sft {\n  quantize { }\n  a = 1\n}"),
        ("sft {\n  quantize { bits = 8 }\n}", "quantize", "", "sft {\n  quantize { bits = 8 }\n}"),
        ("sft {\n  full { }\n  a = 1\n}", "full", "null", "sft {\n  a = 1\n}"),
        ("sft { full { }, a = 1 }", "full", "null", "sft { , a = 1 }"),
    ],
)
def test_setting(before: str, key: str, text: str, after: str) -> None:
    file = parse(Source(Path("r.ft").as_posix(), before), Sink())
    block = file.items[0]
    assert isinstance(block, tree.Block)
    for edit in setting(block, key.split("."), text):
        before = before[: edit.span.start] + edit.text + before[edit.span.end :]
    assert before == after
