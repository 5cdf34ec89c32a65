"""Parts of a text: put together they are the text, each reads as it would in the whole, and a change keeps the others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol.types import Position

from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.lsp.context import context
from ftdsl.lsp.parts import Parts, items
from ftdsl.lsp.positions import Lines, normalised
from ftdsl.lsp.structure import semantic_tokens, symbols
from ftdsl.source import Source
from tests.conftest import CORPUS, EXAMPLES

PIECES = ["{", "}", "(", ")", "[", "]", '"', '"""', "'", "'''", "\\", "\n", "\n\n", "# x", "sft", " = ", "a", ",", "\n}",
          "\nlet b = 1\n", "\nsft {\n  lora { rank = 8 }\n}\n", "é", "😀", "%", "..", "\x0c", "\u2028"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def starts(file: tree.File, shift: int = 0) -> list[tuple[int, str]]:
    return [(item.span.start + shift, type(item).__name__) for item in file.items]


@pytest.mark.parametrize("path", [*EXAMPLES, *CORPUS], ids=lambda path: path.stem)
def test_parts_read_as_the_whole(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    parts = Parts(text, "x")
    assert len(parts.parts) > 1
    whole = parse(Source("x", text), Sink())
    assert [(start + item.span.start, type(item).__name__) for start, item in items(parts)] == starts(whole)
    docs = [getattr(item, "doc", "") for item in whole.items]
    assert [getattr(item, "doc", "") for _, item in items(parts)] == docs


@given(texts, texts, texts, texts)
def test_a_change_gives_the_parts_of_the_new_text(head: str, before: str, after: str, tail: str) -> None:
    old = Parts(head + before + tail, "x")
    new = Parts(head + after + tail, "x", old)
    fresh = Parts(head + after + tail, "x")
    assert "".join(part.text for part in new.parts) == head + after + tail
    assert new.starts == fresh.starts
    assert [part.text for part in new.parts] == [part.text for part in fresh.parts]


def test_a_keystroke_keeps_all_parts_but_one() -> None:
    text = "".join(f"sft s{n} {{\n  lora {{ rank = {n} }}\n}}\n\n" for n in range(1, 400))
    old = Parts(text, "x")
    for put in ("1", "{", "}", '"', "\n", "#"):
        at = text.index("rank = 200") + len("rank = 200")
        new = Parts(text[:at] + put + text[at:], "x", old)
        kept = set(map(id, old.parts)) & set(map(id, new.parts))
        assert len(kept) >= len(old.parts) - (2 if put != "{" else 60), put


@given(texts, st.integers(0, 200))
def test_no_text_and_no_place_is_too_odd(text: str, offset: int) -> None:
    from ftdsl.lsp import complete, hover
    from ftdsl.lsp.document import Document

    document = Document("file:///x/r.ft", Path("/x/r.ft"), 1, text, "utf-16")
    offset = min(offset, len(document.text))
    start, part = document.parts.at(offset)
    context(part, offset - start, {"a": "sft"})
    complete.complete(document, offset)
    hover.hover(document, offset)
    semantic_tokens(document)
    symbols(document)
    document.quick()


@given(texts.map(normalised), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_positions_and_offsets_are_inverse(text: str, encoding: str) -> None:
    lines = Lines(text, encoding)
    codec = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}[encoding]
    for offset in range(len(text) + 1):
        place = lines.position(offset)
        line = text[:offset].rpartition("\n")[2]
        assert place == Position(text.count("\n", 0, offset), len(line.encode(codec[0])) // codec[1])
        assert lines.offset(place) == offset
    assert lines.offset(Position(10**6, 0)) == len(text)
    first = text.partition("\n")[0]
    assert lines.offset(Position(0, 10**6)) == len(first)


def test_line_ends_of_the_protocol_and_no_others() -> None:
    assert normalised("a\r\nb\rc\nd\u2028e\x0cf") == "a\nb\nc\nd\u2028e\x0cf"
    assert Lines("d\u2028e\x0cf\ng").position(6) == Position(1, 0)


def test_typing_a_recipe_key_by_key_never_loses_text() -> None:
    text = EXAMPLES[0].read_text(encoding="utf-8")
    choose = random.Random(1)
    parts = Parts("", "x")
    written = ""
    for _ in range(400):
        at = choose.randrange(len(written) + 1)
        size = choose.choice((1, 1, 1, 5, 40))
        piece = text[(start := choose.randrange(len(text))) : start + size]
        written = written[:at] + piece + written[at + choose.choice((0, 0, 3)) :]
        parts = Parts(written, "x", parts)
        assert "".join(part.text for part in parts.parts) == written
    assert parts.starts == Parts(written, "x").starts
