"""The outline, the folds and the colours of a recipe: each worked out for a part once, and moved to where the part is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsprotocol.types import DocumentSymbol, FoldingRange, FoldingRangeKind, SymbolKind

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.language import tree
from ftdsl.language.resolve import keys as key_paths
from ftdsl.lsp.document import Document
from ftdsl.lsp.parts import Part, children
from ftdsl.source import Span

TYPES = (
    "comment", "keyword", "class", "namespace", "property", "variable", "parameter", "string", "number", "operator", "function",
    "enumMember", "type",
)  # fmt: skip
MODIFIERS = ("declaration", "documentation")
_MANY = 5_000
"""Lines from which the outline has declarations and stages only: an editor shows nobody ten thousand keys."""


def symbols(document: Document) -> list[DocumentSymbol]:
    """Declarations, blocks and keys, nested."""
    keys = len(document.lines.starts) < _MANY
    return [
        symbol
        for start, part in document.parts
        for item in part.file.items
        if (symbol := _symbol(document, item, start, keys)) is not None
    ]


def _symbol(document: Document, item: tree.Item, start: int, keys: bool) -> DocumentSymbol | None:
    def ranged(span: Span, inner: Span, name: str, kind: SymbolKind, detail: str = "") -> DocumentSymbol:
        whole = document.lines.range(start + span.start, start + span.end)
        return DocumentSymbol(
            name, kind, whole, document.lines.range(start + inner.start, start + inner.end), detail or None
        )

    match item:
        case tree.Let():
            return ranged(item.span, item.name.span, item.name.text, SymbolKind.Variable, "let")
        case tree.Param():
            return ranged(item.span, item.name.span, item.name.text, SymbolKind.Variable, "param")
        case tree.Include():
            return ranged(item.span, item.path.span, item.path.plain or "include", SymbolKind.File, "include")
        case tree.Bind() if keys:
            span = item.key[0].span.to(item.key[-1].span)
            detail = item.value.span.text if len(item.value.span.text) < 60 else ""
            return ranged(item.span, span, ".".join(word.text for word in item.key) or "?", SymbolKind.Property, detail)
        case tree.Block():
            word = item.label or item.kind
            kind = SymbolKind.Class if key_paths.is_stage_kind(item.kind.text) else SymbolKind.Namespace
            symbol = ranged(item.span, word.span, word.text or "?", kind, item.kind.text if item.label else "")
            inner = item.body if keys else ()
            children = (_symbol(document, child, start, keys) for child in inner)
            symbol.children = [child for child in children if child is not None]
            return symbol
    return None


def folds(document: Document) -> list[FoldingRange]:
    """Blocks, lists and texts of several lines, and groups of comment lines."""
    ranges: dict[int, FoldingRange] = {}
    for start, part in document.parts:
        for begin, end in _brackets(part):
            first = document.lines.position(start + begin).line
            last = document.lines.position(start + end).line
            if last > first:
                ranges.setdefault(first, FoldingRange(first, last))
        for match in re.finditer(r"^[ \t]*#.*(?:\n[ \t]*#.*)+", part.text, re.MULTILINE):
            first = document.lines.position(start + match.start()).line
            last = document.lines.position(start + match.end()).line
            ranges.setdefault(first, FoldingRange(first, last, kind=FoldingRangeKind.Comment))
    return [ranges[line] for line in sorted(ranges)]


def _brackets(part: Part) -> Iterator[tuple[int, int]]:
    """Pairs of offsets: where a bracket or a text opens, and the start of the line on which it closes, or its end."""
    stack: list[int] = []
    for token in part.tokens:
        at, end = token.start_pos or 0, token.end_pos or 0
        if token.type in ("LBRACE", "LSQB", "LPAR"):
            stack.append(at)
        elif token.type in ("RBRACE", "RSQB", "RPAR") and stack:
            yield stack.pop(), max(0, part.text.rfind("\n", 0, at))
        elif token.type == "STRING" and "\n" in token:
            yield at, end


# --- semantic tokens


def semantic_tokens(document: Document, first: int = 0, last: int | None = None) -> list[int]:
    """The protocol's quintuples for the parts that touch the lines `first` to `last`."""
    data: list[int] = []
    line, column = 0, 0
    lines = document.lines
    for start, part in document.parts:
        if last is not None:
            begin = lines.position(start).line
            if begin > last or lines.position(start + len(part.text)).line < first:
                continue
        for at, end, kind, modifier in _coloured(part):
            for low, high in _by_line(part.text, at, end):
                begins, ends = lines.position(start + low), lines.position(start + high)
                delta = begins.line - line
                data += [
                    delta,
                    begins.character - (0 if delta else column),
                    ends.character - begins.character,
                    kind,
                    modifier,
                ]
                line, column = begins.line, begins.character
    return data


def _by_line(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A range cut at line ends, without the blanks there: many editors take no token of several lines."""
    for match in _PIECE.finditer(text, start, end):
        yield match.span()


_PIECE = re.compile(r"[^\s](?:[^\n]*[^\s])?")
_KEYWORDS = {"LET", "PARAM", "INCLUDE", "FROM", "AS", "IN", "TRUE", "FALSE", "NULL"}
_OPERATORS = {"EQUAL", "TILDE", "PLUS", "MINUS", "STAR", "SLASH", "DOTDOT", "__ANON_0"}


def _coloured(part: Part) -> list[tuple[int, int, int, int]]:
    """(start, end, index in TYPES, bits of MODIFIERS) in the order of the text; kept with the part."""
    if part.coloured is not None:
        return part.coloured
    roles: dict[int, tuple[str, bool]] = {}
    for item in part.file.items:
        for span, role, declares in _roles(item):
            roles[span.start] = (role, declares)
    tokens = []
    for token in part.tokens:
        at, end = token.start_pos or 0, token.end_pos or 0
        role, declares = roles.get(at, ("", False))
        if token.type == "COMMENT":
            role, declares = "comment", False
        elif token.type in ("STRING", "UNCLOSED"):
            role = "string"
        elif token.type == "NUMBER":
            role = "number"
        elif token.type in _KEYWORDS and not role:
            role = "keyword"
        elif token.type in _OPERATORS:
            role = "operator"
        if role:
            modifier = int(declares) | (2 if token.type == "COMMENT" and token.startswith("##") else 0)
            tokens.append((at, end, TYPES.index(role), modifier))
    part.coloured = tokens
    return tokens


def _roles(item: tree.Item) -> Iterator[tuple[Span, str, bool]]:
    match item:
        case tree.Let():
            yield item.name.span, "variable", True
            yield from _of_expression(item.value)
        case tree.Param():
            yield item.name.span, "parameter", True
            if item.type is not None:
                yield item.type.name.span, "type", False
            if item.default is not None:
                yield from _of_expression(item.default)
        case tree.Bind():
            yield from ((word.span, "property", False) for word in item.key)
            yield from _of_expression(item.value)
        case tree.Block():
            stage = key_paths.is_stage_kind(item.kind.text) or item.kind.text in ("profile", "template", "search")
            yield item.kind.span, "keyword" if stage else "namespace", False
            if item.label is not None:
                yield item.label.span, "class", True
            for parent in item.parents:
                yield parent.path[0].span, "class", False
            for inner in item.body:
                yield from _roles(inner)
        case tree.Include() if item.alias is not None:
            yield item.alias.span, "namespace", True


def _of_expression(value: tree.Expression) -> Iterator[tuple[Span, str, bool]]:
    match value:
        case tree.Ref():
            yield value.path[0].span, "variable", False
            yield from ((word.span, "property", False) for word in value.path[1:])
        case tree.Call():
            known = value.path[0].text in vocabulary().functions
            yield value.path[0].span, "function" if known else "enumMember", False
            for argument in value.arguments:
                if argument.name is not None:
                    yield argument.name.span, "parameter", False
        case tree.Quantity() if value.unit_span.start > value.span.start:
            yield value.unit_span, "type", False
    for inner in children(value):
        yield from _of_expression(inner)
