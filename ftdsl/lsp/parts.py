"""A recipe in parts (a declaration, a key or a block of the file, with the comments before it), so that a keystroke reads one
part anew and keeps the trees of the others. Parts end where no bracket is open."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

from lark import Token

from ftdsl.diagnostics import Diagnostic, Sink
from ftdsl.language import lexing, tree
from ftdsl.language.parser import parse
from ftdsl.source import Source, Span

_EDGE = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"(?!""))*(?:"""|\Z)'
    r"|'''(?:[^']|'(?!''))*(?:'''|\Z)"
    r'|"(?!"")(?:[^"\\\n]|\\[^\n])*"?'
    r"|'(?!'')[^'\n]*'?"
    r"|#[^\n]*|[{}()\[\]\n]"
)
_NEW_ITEM = re.compile(r"\n(?=[A-Za-z#])")
LARGE = 2_000
"""Characters of an unclosed block from which the next line that begins with a letter is taken for a new item."""


class Part:
    """A text by itself. Spans of its tree, tokens and diagnostics count from its own start."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.coloured: list[tuple[int, int, int, int]] | None = None  # by `structure`

    @cached_property
    def _read(self) -> tuple[tree.File, list[Diagnostic]]:
        sink = Sink()
        return parse(Source(self.name, self.text), sink), list(sink)

    @property
    def file(self) -> tree.File:
        return self._read[0]

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Syntax errors."""
        return self._read[1]

    @cached_property
    def tokens(self) -> list[Token]:
        """Tokens and comments in the order of the text."""
        tokens, comments = lexing.tokens(self.text)
        return sorted([*tokens, *comments], key=lambda token: token.start_pos or 0)


class Parts:
    """The parts of a text, in order; `before` lends those that have not changed."""

    def __init__(self, text: str, name: str, before: Parts | None = None) -> None:
        self.text = text
        self.starts: list[int] = []
        self.parts: list[Part] = []
        if before is None or (before.parts and before.parts[0].name != name):
            self._add(_split(text, 0), name)
        else:
            self._change(before, name)

    def _add(self, ends: Iterator[int], name: str, start: int = 0) -> None:
        for end in ends:
            self.starts.append(start)
            self.parts.append(Part(self.text[start:end], name))
            start = end

    def _change(self, before: Parts, name: str) -> None:
        """Keep the parts before the first and after the last changed character, and split what is between."""
        text, old = self.text, before.text
        same = _common(text, old)
        tail = _common_tail(text, old, min(len(text), len(old)) - same)
        keep = max(0, bisect_right(before.starts, max(0, same - 1)) - 1)
        self.starts, self.parts = before.starts[:keep], before.parts[:keep]
        start = before.starts[keep] if before.starts else 0
        shift = len(text) - len(old)
        later = {begin + shift: index for index, begin in enumerate(before.starts) if begin > len(old) - tail}
        for end in _split(text, start):
            self.starts.append(start)
            self.parts.append(Part(text[start:end], name))
            start = end
            if end in later:
                index = later[end]
                self.starts += [begin + shift for begin in before.starts[index:]]
                self.parts += before.parts[index:]
                return

    def index(self, offset: int) -> int:
        return max(0, bisect_right(self.starts, offset) - 1)

    def at(self, offset: int) -> tuple[int, Part]:
        """The part at an offset, and where it starts."""
        index = self.index(offset)
        return self.starts[index], self.parts[index]

    def __iter__(self) -> Iterator[tuple[int, Part]]:
        return zip(self.starts, self.parts, strict=True)


def _split(text: str, start: int) -> Iterator[int]:
    """Ends of the parts from `start` on; the last is the end of the text."""
    line, stack, code = start, "", False
    resume = start
    while resume < len(text) or resume == start:
        for match in _EDGE.finditer(text, resume):
            mark = match[0]
            code = code or (match.start() > line and not text[line : match.start()].isspace())
            if mark == "\n":
                line = match.end()
                if not stack and code:
                    yield line
                    start, code = line, False
            elif mark in "{}([)]":
                code = True
                stack = _inside(stack, mark)
            else:
                line = match.end()
                code = code or mark[0] != "#"
        cut = _NEW_ITEM.search(text, _first_code(text, start)) if stack and len(text) - start > LARGE else None
        if cut is None:
            break
        yield cut.end()
        start = line = resume = cut.end()
        stack, code = "", False
    yield from (len(text),) if start < len(text) or start == 0 else ()


def _first_code(text: str, start: int) -> int:
    """The start of the first line that is no comment."""
    while text.startswith(("#", "\n"), start) and (end := text.find("\n", start)) >= 0:
        start = end + 1
    return start


def _inside(stack: str, mark: str) -> str:
    """Brackets that are open after this one; braces end round and square ones, as the lexer's layout has it."""
    if mark in "([":
        return stack + mark
    if mark in ")]":
        opening = "(" if mark == ")" else "["
        return stack[: stack.rindex(opening)] if opening in stack.rpartition("{")[2] else stack
    braces = "{" * stack.count("{")
    return braces + "{" if mark == "{" else braces[:-1]


def _common(left: str, right: str) -> int:
    """Characters both begin with."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[low:middle] == right[low:middle] else (low, middle - 1)
    return low


def _common_tail(left: str, right: str, limit: int) -> int:
    """Characters both end with, at most `limit`."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        same = left[len(left) - middle : len(left) - low] == right[len(right) - middle : len(right) - low]
        low, high = (middle, high) if same else (low, middle - 1)
    return low


def shifted(span: Span, start: int, source: Source) -> Span:
    """A span of a part as one of the whole text."""
    return Span(source, span.start + start, span.end + start)


def items(parts: Parts) -> Iterator[tuple[int, tree.Item]]:
    """The file's items, each with the start of its part."""
    for start, part in parts:
        for item in part.file.items:
            yield start, item


def children(expression: tree.Expression) -> Sequence[tree.Expression]:
    """Expressions inside one."""
    match expression:
        case tree.ListOf():
            return expression.items
        case tree.Call():
            return [argument.value for argument in expression.arguments]
        case tree.Binary():
            return (expression.left, expression.right)
        case tree.Negative():
            return (expression.value,)
    return ()
