"""The Lark parser: its layout hook, and its parse tables, which are built with the package and loaded here."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token
from lark import __version__ as lark_version
from lark.lexer import LexerThread

HERE = Path(__file__).parent
TABLE = HERE / "ft.lark.bin"
"""Written by the build (or, in a checkout, by the first run). It is a pickle, so it is read from this folder only."""


_CLOSES = {"LPAR": "RPAR", "LSQB": "RSQB"}


class Layout:
    """Drops newlines inside ( ) and [ ]. Braces and unclosed strings end such nesting, since they are not valid inside it."""

    always_accept = ("COMMENT", "STRAY", "UNCLOSED", "ERROR", "MISSING")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        inside: list[str] = []
        for token in stream:
            kind = token.type
            if kind == "_NL":
                if inside:
                    continue
            elif kind in _CLOSES:
                inside.append(_CLOSES[kind])
            elif kind in ("RPAR", "RSQB") and kind in inside:
                while inside.pop() != kind:
                    pass
            elif kind in ("LBRACE", "RBRACE", "UNCLOSED"):
                inside.clear()
            yield token


def grammar_text() -> str:
    """The grammar: from the package if installed, else from the root of the checkout."""
    inside = HERE / "ft.lark"
    return (inside if inside.exists() else HERE.parent.parent / "grammar" / "ft.lark").read_text(encoding="utf-8")


def build() -> Lark:
    """Build the parser from its grammar (about 30 ms)."""
    return Lark(
        grammar_text(),
        parser="lalr",
        lexer="basic",
        postlex=Layout(),
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def stamp() -> str:
    """The digest of what a table depends on: the grammar, this file, and the version of Lark."""
    text = grammar_text() + Path(__file__).read_text(encoding="utf-8") + lark_version
    return hashlib.sha256(text.encode()).hexdigest()


def save(path: Path = TABLE) -> Lark:
    """Write the table to a temporary file, then rename it, so that no reader sees a partial one. Raises: OSError."""
    from ftdsl.storage import write_file  # rarely needed

    lark = build()
    table = io.BytesIO()
    lark.save(table)
    write_file(path, stamp().encode() + table.getvalue())
    return lark


@cache
def parser() -> Lark:
    """The parser, loaded from its table if that is current (2 ms), else rebuilt (and saved, in a checkout)."""
    try:
        with TABLE.open("rb") as handle:
            if handle.read(64).decode() == stamp():
                return _load(handle)
    except (OSError, UnicodeDecodeError, EOFError, pickle.UnpicklingError):
        pass
    try:
        return save() if (HERE.parent.parent / "grammar").is_dir() else build()
    except OSError:
        return build()


def _load(handle: Any) -> Lark:
    lark: Lark = Lark.load(handle)
    return lark


@cache
def _lexer() -> Any:
    """The parser's lexer. `Lark.lex` of an LALR parser builds a new one, and compiles its patterns, at every call."""
    return parser()._build_lexer()


MAX_NESTING = 100
"""Maximum nesting of braces, brackets and signs; the code that reads a tree is recursive."""

_DEEPER = {"LBRACE": 1, "LSQB": 1, "LPAR": 1, "RBRACE": -1, "RSQB": -1, "RPAR": -1}


def shallow(tokens: list[Token]) -> tuple[list[Token], Token | None]:
    """The tokens without those nested too deeply, and the first of the latter (None if there is none)."""
    kept: list[Token] = []
    depth = signs = 0
    first: Token | None = None
    for token in tokens:
        change = _DEEPER.get(token.type, 0)
        signs = signs + 1 if token.type == "MINUS" else 0
        nesting = depth + 1 if change > 0 else depth
        if max(nesting, signs) <= MAX_NESTING:
            kept.append(token)
        elif first is None:
            first = token
        depth = max(0, depth + change)
    return kept, first


def tokens(text: str) -> tuple[list[Token], list[Token]]:
    """(tokens, comments) of a text. Never fails: an unknown character is a STRAY token."""
    code: list[Token] = []
    comments: list[Token] = []
    for token in Layout().process(LexerThread.from_text(_lexer(), text).lex(None)):  # type: ignore[no-untyped-call]
        (comments if token.type == "COMMENT" else code).append(token)
    return code, comments
