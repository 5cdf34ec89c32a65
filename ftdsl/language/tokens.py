"""Kinds of tokens as messages name them, tokens that recovery makes, and where the values of the parser's stack begin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lark import Token

from ftdsl.source import Source

ENDS = ("_NL", "COMMA", "RBRACE", "$END")
OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
TOKEN_NAMES = {
    "EQUAL": "`=`", "LBRACE": "`{`", "RBRACE": "`}`", "RPAR": "`)`", "RSQB": "`]`", "COMMA": "`,`", "NAME": "a name",
    "STRING": "a text", "NUMBER": "a number", "COLON": "`:`", "DOT": "`.`", "FROM": "`from`", "IN": "`in`", "AS": "`as`",
}  # fmt: skip


def token_at(kind: str, text: str, start: int, end: int, source: Source) -> Token:
    line, column = source.position(start)
    return Token(kind, text, start, line, column, line, column, end)


def first_offset(popped: list[Any]) -> int | None:
    """The offset at which the skipped values begin."""
    return min((offset for value in popped for offset in offsets(value)), default=None)


def offsets(value: Any) -> Iterator[int]:
    """The offsets of all tokens; iterative, since a long sum is a deep tree."""
    todo = [value]
    while todo:
        inner = todo.pop()
        if isinstance(inner, Token):
            yield inner.start_pos or 0
        else:
            todo += getattr(inner, "children", ())
