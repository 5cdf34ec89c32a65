"""Converts Lark's tree to `language.tree`: nodes with spans, decoded strings, attached doc comments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lark import Token, Tree

from ftdsl.diagnostics import Sink
from ftdsl.language import strings, tree
from ftdsl.source import Source, Span

MAX_DEPTH = 300
"""Maximum depth of an expression. `lexing.shallow` limits brackets; this limits long sums, which nest on the left."""

Node = Any
"""A Lark token or tree; Lark has no more precise types."""


class Builder:
    """Builds the tree of one source; `docs` maps the offset where an item starts to its `##` comment."""

    def __init__(self, source: Source, docs: dict[int, str], sink: Sink) -> None:
        self.source = source
        self.docs = docs
        self.sink = sink
        self._depth = 0
        self._too_deep = False
        self._firsts: dict[int, Any] = {}

    def items(self, body: Node) -> tuple[tree.Item, ...]:
        return tuple(self.item(child) for child in body.children if isinstance(child, Tree))

    def item(self, node: Node) -> tree.Item:
        built: tree.Item = getattr(self, f"_{node.data}")(node)
        return built

    def _span(self, node: Node) -> Span:
        if isinstance(node, Token):
            return Span(self.source, node.start_pos or 0, node.end_pos or 0)
        first, last, above = node, node, []
        while isinstance(first, Tree):
            above.append(id(first))
            first = self._firsts.get(id(first)) or first.children[0]
        if (
            len(above) > 4
        ):  # a long sum nests on the left; without the cache, every level would descend to the same token
            self._firsts |= dict.fromkeys(above, first)
        while isinstance(last, Tree):
            last = last.children[-1]
        return Span(self.source, first.start_pos, last.end_pos)

    def _word(self, token: Node) -> tree.Word:
        return tree.Word(str(token), self._span(token))

    def _doc(self, span: Span) -> str:
        return self.docs.get(span.start, "")

    # --- items

    def _bad(self, node: Node) -> tree.Item:
        return tree.Bad(self._span(node))

    def _include(self, node: Node) -> tree.Item:
        path = strings.read(self._span(node.children[1]), self.sink)
        alias = self._word(node.children[3]) if len(node.children) > 3 else None
        return tree.Include(path, alias, self._span(node))

    def _let(self, node: Node) -> tree.Item:
        _, name, binder, value = node.children
        span = self._span(node)
        return tree.Let(self._word(name), _binder(binder), self.expression(value), span, self._doc(span))

    def _param(self, node: Node) -> tree.Item:
        children = node.children
        kind = next((self._type(c) for c in children if isinstance(c, Tree) and c.data == "type"), None)
        default = None
        for at, child in enumerate(children):
            if isinstance(child, Token) and child.type == "EQUAL":
                default = self.expression(children[at + 1])
        span = self._span(node)
        return tree.Param(self._word(children[1]), kind, default, span, self._doc(span))

    def _type(self, node: Node) -> tree.TypeName:
        inner = tuple(self._type(c) for c in node.children if isinstance(c, Tree))
        optional = isinstance(node.children[-1], Token) and node.children[-1].type == "OPTIONAL"
        return tree.TypeName(self._word(node.children[0]), inner, optional, self._span(node))

    def _bind(self, node: Node) -> tree.Item:
        key, binder, value = node.children
        inner = key.children[0]
        if isinstance(inner, Token):
            text = strings.read(self._span(inner), self.sink).plain or ""
            key_path: tuple[tree.Word, ...] = (tree.Word(text, self._span(inner)),)
        else:
            key_path = self._path(inner)
        span = self._span(node)
        return tree.Bind(key_path, _binder(binder), self.expression(value), span, self._doc(span))

    def _block(self, node: Node) -> tree.Item:
        children = node.children
        kind = self._word(children[0])
        label: tree.Word | None = None
        parents: tuple[tree.Ref, ...] = ()
        brace = next(at for at, c in enumerate(children) if isinstance(c, Token) and c.type == "LBRACE")
        for child in children[1:brace]:
            if child.data == "label":
                label = self._label(child.children[0])
            else:
                parents = tuple(self._ref(c) for c in child.children if isinstance(c, Tree))
        span = self._span(node)
        header = Span(self.source, kind.span.start, self._span(children[brace - 1]).end)
        return tree.Block(kind, label, parents, self.items(children[brace + 1]), header, span, self._doc(span))

    def _label(self, token: Node) -> tree.Word:
        if token.type == "STRING":
            return tree.Word(strings.read(self._span(token), self.sink).plain or "", self._span(token))
        return self._word(token)

    # --- expressions

    def expression(self, node: Node) -> tree.Expression:
        build: Callable[[Node], tree.Expression] = getattr(self, f"_{node.data}")
        self._depth += 1
        try:
            if self._depth <= MAX_DEPTH:
                return build(node)
        finally:
            self._depth -= 1
        span = self._span(node)
        if not self._too_deep:
            too_deep(span, self.sink)
        self._too_deep = True
        return tree.Missing(span)

    def _path(self, node: Node) -> tuple[tree.Word, ...]:
        return tuple(self._word(token) for token in node.children if token.type != "DOT")

    def _ref(self, node: Node) -> tree.Ref:
        path = node.children[0] if node.data == "ref" else node
        return tree.Ref(self._path(path), self._span(node))

    def _quantity(self, node: Node) -> tree.Expression:
        token = node.children[0]
        span = self._span(node)
        text = str(token)
        number, unit = _split_number(text)
        start = span.start + len(number)
        if len(node.children) > 1:
            unit = f"{unit} {node.children[1]}".strip()
            start = start if _split_number(text)[1] else self._span(node.children[1]).start
        return tree.Quantity(number, unit, span, Span(self.source, start, span.end))

    def _text(self, node: Node) -> tree.Expression:
        token = node.children[0]
        return strings.read(self._span(token), self.sink, closed=token.value != "\0")

    def _constant(self, node: Node) -> tree.Expression:
        return tree.Constant({"true": True, "false": False, "null": None}[str(node.children[0])], self._span(node))

    def _missing(self, node: Node) -> tree.Expression:
        return tree.Missing(self._span(node))

    def _group(self, node: Node) -> tree.Expression:
        return self.expression(node.children[1])

    def _negative(self, node: Node) -> tree.Expression:
        return tree.Negative(self.expression(node.children[1]), self._span(node))

    def _binary(self, node: Node) -> tree.Expression:
        left, op, right = node.children
        return tree.Binary(str(op), self.expression(left), self.expression(right), self._span(node))

    def _call(self, node: Node) -> tree.Expression:
        arguments = tuple(self._argument(c) for c in node.children[1:] if isinstance(c, Tree))
        return tree.Call(self._path(node.children[0]), arguments, self._span(node))

    def _argument(self, node: Node) -> tree.Argument:
        children = node.children
        name = self._word(children[0]) if len(children) > 1 else None
        return tree.Argument(name, self.expression(children[-1]), self._span(node))

    def _list(self, node: Node) -> tree.Expression:
        return tree.ListOf(tuple(self.expression(c) for c in node.children if isinstance(c, Tree)), self._span(node))


def too_deep(span: Span, sink: Sink) -> None:
    """Report an expression that is nested too deeply."""
    sink.error("FT065", "this is nested too deeply", span, help="split it: `let` names a part")


def _binder(node: Node) -> tree.Binder:
    return tree.Binder(str(node.children[0]))


def _split_number(text: str) -> tuple[str, str]:
    """`3e-5` -> ("3e-5", ""), `80GB` -> ("80", "GB"), `1e3k` -> ("1e3", "k")."""
    end = len(text)
    while end and (text[end - 1].isalpha() or text[end - 1] == "%"):
        end -= 1
    return text[:end], text[end:]
