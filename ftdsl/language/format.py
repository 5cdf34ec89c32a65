"""The formatter. It changes whitespace only: tokens, comments and line breaks between items are kept.

Two spaces per level; a space around binders and operators; binders and braces of adjacent lines aligned; at most one empty line,
none at the start or end of a block.
"""

from __future__ import annotations

from typing import Any

from lark import Token

from ftdsl.diagnostics import Sink
from ftdsl.language import lexing, tree
from ftdsl.language.parser import parse
from ftdsl.record import mutable
from ftdsl.source import Source, Span

INDENT = "  "
_OPEN, _CLOSE = ("LBRACE", "LPAR", "LSQB"), ("RBRACE", "RPAR", "RSQB")
_BINDERS = ("EQUAL", "IN", "TILDE")
_OPERATORS = ("PLUS", "MINUS", "STAR", "SLASH", "EQUAL", "TILDE", "COMMA", "COLON", "IN", "__ANON_0", "DOTDOT")


class FormatError(Exception):
    """Formatting would change more than whitespace: a bug of the formatter. The result must not be written."""


def format_text(source: Source) -> str | None:
    """The formatted text; None if the source has syntax errors.

    Raises: FormatError if the result does not have the same tokens and comments, or does not parse to the same tree.
    """
    sink = Sink()
    before = parse(source, sink)
    if sink.failed:
        return None
    lines = _lines(source.text)
    _align(lines)
    text = _joined(lines)
    after = parse(Source(source.name, text), sink)
    if sink.failed or _essence(text) != _essence(source.text) or _content(after) != _content(before):
        raise FormatError("formatting would change more than whitespace")
    return text


@mutable
class _Line:
    """One line of the result: its depth, and its text in two parts (`head`, `tail`), cut where a binder or brace is aligned."""

    depth: int
    tokens: list[Token]
    blank_before: bool = False
    comment: str = ""
    head: str = ""
    tail: str = ""
    ends_deeper: bool = False
    in_list: bool = False
    pad: int = 0

    @property
    def text(self) -> str:
        code = f"{self.head}{' ' * self.pad}{self.tail}" if self.tail else self.head
        parts = [code] if code else []
        if self.comment:
            parts.append(self.comment)
        return INDENT * self.depth + " ".join(parts)


def _lines(text: str) -> list[_Line]:
    tokens, comments = lexing.tokens(text)
    solid = [token for token in tokens if token.type != "_NL"]
    tokens_by_line: dict[int, tuple[list[Token], list[Token]]] = {}
    line_number, ended = 0, 0
    line_of: dict[int, int] = {}
    for token in solid:
        # Tokens after a multi-line string, on its last line, belong to the line where the string begins.
        line_number = line_number if token.line == ended else token.line or 0
        ended = token.end_line or 0
        line_of[token.start_pos or 0] = line_number
        tokens_by_line.setdefault(line_number, ([], []))[0].append(token)
    for comment in comments:
        # The same for a comment after a multi-line string.
        tokens_by_line.setdefault(_line_of(comment, solid, line_of), ([], []))[1].append(comment)
    lines: list[_Line] = []
    stack: list[str] = []
    last_end = 0
    for number in sorted(tokens_by_line):
        line_tokens, remarks = tokens_by_line[number]
        leading = 0
        while leading < len(line_tokens) and line_tokens[leading].type in _CLOSE:
            leading += 1
        depth = len(stack) - leading
        in_list = bool(stack) and stack[-1] != "LBRACE"
        for token in line_tokens:
            if token.type in _OPEN:
                stack.append(token.type)
            elif token.type in _CLOSE and stack:
                stack.pop()
        line = _Line(max(0, depth), line_tokens, in_list=in_list)
        line.ends_deeper = len(stack) > depth
        line.blank_before = number > last_end + 1 and bool(lines)
        line.comment = " ".join(str(remark).rstrip() for remark in remarks)
        line.head, line.tail = _spaced(line_tokens, split=not in_list)
        lines.append(line)
        last_end = max([number, *(token.end_line or 0 for token in line_tokens)])
    return lines


def _line_of(comment: Token, solid: list[Token], line_of: dict[int, int]) -> int:
    for token in reversed(solid):
        if (token.start_pos or 0) < (comment.start_pos or 0):
            return line_of[token.start_pos or 0] if token.end_line == comment.line else comment.line or 0
    return comment.line or 0


def _spaced(tokens: list[Token], *, split: bool) -> tuple[str, str]:
    """The code of a line, split before its first binder or brace."""
    head, tail, cut = "", "", False
    depth = 0
    for at, token in enumerate(tokens):
        binds = token.type in _BINDERS or (token.type == "LBRACE" and at > 0)
        if split and not cut and depth == 0 and binds and not _is_word(tokens, at):
            cut = True
            tail = str(token)
            continue
        depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
        gap = " " if at and _gap(tokens, at) else ""
        if cut:
            tail += gap + str(token)
        else:
            head += gap + str(token)
    return head, tail


def _is_word(tokens: list[Token], at: int) -> bool:
    """Whether the token is a name: `in` after a dot."""
    return tokens[at].type == "IN" and at > 0 and tokens[at - 1].type == "DOT"


def _gap(tokens: list[Token], at: int) -> bool:
    """Whether a space precedes a token."""
    before, token = tokens[at - 1].type, tokens[at].type
    if token in ("COMMA", "COLON", "OPTIONAL", "DOT", "RPAR", "RSQB") or before in ("DOT", "LPAR", "LSQB"):
        return False
    if before == "LBRACE" and token == "RBRACE":
        return False
    if token == "LPAR":
        return before not in ("NAME", "FROM", "IN", "AS", "LET", "PARAM", "INCLUDE") or (
            before == "IN" and not _is_word(tokens, at - 1)
        )
    if token == "LSQB":
        return before != "NAME"
    if before == "MINUS":
        return at >= 2 and tokens[at - 2].type not in (*_OPERATORS, *_OPEN)
    return True


def _align(lines: list[_Line]) -> None:
    """Align binders and braces of adjacent lines of the same depth; a line that opens a block ends its group."""
    group: list[_Line] = []

    def close() -> None:
        width = max((len(line.head) for line in group), default=0)
        for line in group:
            line.pad = width - len(line.head) + 1
        group.clear()

    for line in lines:
        opens_block = line.ends_deeper and line.tail.endswith("{")
        if (
            line.blank_before
            or not line.tail
            or line.in_list
            or opens_block
            or "\n" in line.head
            or (group and line.depth != group[0].depth)
        ):
            close()
        if opens_block or line.in_list or "\n" in line.head:
            line.pad = 1
        elif line.tail:
            group.append(line)
            if line.ends_deeper:
                close()
    close()


def _joined(lines: list[_Line]) -> str:
    parts: list[str] = []
    for at, line in enumerate(lines):
        after_open = at > 0 and lines[at - 1].ends_deeper and lines[at - 1].text.endswith(("{", "(", "["))
        closes = bool(line.tokens) and line.tokens[0].type in _CLOSE
        if line.blank_before and not after_open and not closes:
            parts.append("")
        parts.append(line.text.rstrip())
    return "\n".join(parts) + "\n" if parts else ""


def _content(node: Any) -> Any:
    """A tree without its spans, to compare content."""
    if isinstance(node, list | tuple):
        return tuple(map(_content, node))
    if isinstance(node, tree.Comment):
        return node.text.rstrip()
    fields = getattr(type(node), "__match_args__", ())
    if not fields or isinstance(node, Span | Source):
        return None if isinstance(node, Span | Source) else node
    return (type(node).__name__, *(_content(getattr(node, name)) for name in fields))


def _essence(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """What formatting must keep: every token except line breaks, and every comment."""
    tokens, comments = lexing.tokens(text)
    solid = [(token.type, str(token)) for token in tokens if token.type != "_NL"]
    return solid, [str(comment).rstrip() for comment in comments]
