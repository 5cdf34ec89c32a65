"""Bash to a syntax tree with spans in characters; the grammar is tree-sitter's."""

from __future__ import annotations

import re
from array import array
from functools import cache
from typing import TYPE_CHECKING

from ftdsl.source import Source, Span

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MAX_DEPTH = 400
"""Brackets and compound commands within one another: of more the parser's time grows with the square."""

BLANKS = re.compile(r"[\f\v\0\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]")
"""Letters for a shell, and blanks for the grammar."""


class TooDeepError(ValueError):
    """The text opens more brackets than anybody's script does."""


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


_PLACEHOLDER = re.compile(
    r"(?<![<>\w])<(?=[A-Z_]*(?:YOUR|PATH|NAME|DIR|MODEL|TOKEN|KEY|ID)|your)[\w .-]{2,60}>(?![>&\w])"
)
"""`<YOUR_PATH>`, which a person was to replace: a word, and no redirection."""


def _fitting(text: str) -> str:
    """The text as the grammar should see it, of the same length: line ends of Windows, blanks that are letters, and places
    to be filled in."""
    text = _PLACEHOLDER.sub(lambda match: "x" * len(match[0]), text)
    text = text.replace("\\\r\n", "\\\n ").replace("\r", " ")
    return BLANKS.sub(lambda match: "x" * len(match[0].encode()), text)


class Syntax:
    """A parsed text. `within`: the place of all of it, where it is a text inside another one; `start`, `end`: the part of
    the source that is read."""

    def __init__(self, source: Source, within: Span | None = None, start: int = 0, end: int | None = None) -> None:
        """Raises: TooDeepError."""
        text = source.text[start:end]
        if not _shallow(text):
            raise TooDeepError(source.name)
        self.source, self.within, self.text, self.start = source, within, text, start
        data = _fitting(text).encode("utf-8", "surrogatepass")
        self._at = None if text.isascii() else _characters(text)
        if _VARIABLE.search(data):
            data, self._at = _braced(data, self._at)
        self.root: Node = _parser().parse(data).root_node

    def at(self, byte: int) -> int:
        """The character that begins at a byte."""
        return byte if self._at is None else self._at[min(byte, len(self._at) - 1)]

    def span(self, node: Node) -> Span:
        if self.within is not None:
            return self.within
        return Span(self.source, self.start + self.at(node.start_byte), self.start + self.at(node.end_byte))

    def of(self, node: Node) -> str:
        """The text of a node."""
        return self.text[self.at(node.start_byte) : self.at(node.end_byte)]

    def between(self, start: int, end: int) -> str:
        """The text between two bytes."""
        return self.text[self.at(start) : self.at(end)]


_VARIABLE = re.compile(rb"(?<!\\)\$([A-Za-z_][A-Za-z0-9_]*|[0-9])")


def _braced(data: bytes, positions: array[int] | None) -> tuple[bytes, array[int]]:
    """The text with `${NAME}` for every `$NAME`, and the character each of its bytes comes from: of `$A/$B/c` the grammar makes
    two words, `$A/$` and `B/c` (tree-sitter-bash 0.25.1)."""
    before = array("I", range(len(data) + 1)) if positions is None else positions
    after = array("I")
    parts: list[bytes] = []
    at = 0
    for match in _VARIABLE.finditer(data):
        start, end = match.span(1)
        parts += [data[at:start], b"{", match[1], b"}"]
        after += before[at:start] + before[start : start + 1] + before[start:end] + before[end : end + 1]
        at = end
    after += before[at:]
    return b"".join([*parts, data[at:]]), after


def _characters(text: str) -> array[int]:
    """Byte -> character."""
    positions = array("I")
    for at, char in enumerate(text):
        positions.extend([at] * len(char.encode("utf-8", "surrogatepass")))
    positions.append(len(text))
    return positions


def _shallow(text: str) -> bool:
    depth = 0
    for match in re.finditer(r"[(){}]", text):
        depth += 1 if match[0] in "({" else -1
        if depth > MAX_DEPTH:
            return False
        depth = max(depth, 0)
    return True
