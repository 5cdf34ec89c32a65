"""Prints syntax trees, for generated recipes.

Input: items made with the functions here. Output: formatted text. A value cannot inject syntax: invalid names are refused, texts
are quoted, comments stay on their line, and the printed text is parsed again and must give the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from ftdsl.catalog.vocabulary import STAGE_KINDS
from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.language.format import format_text
from ftdsl.language.parser import parse
from ftdsl.record import frozen
from ftdsl.source import Source, Span

WIDTH = 108
NOWHERE = Span(Source("", ""), 0, 0)
RESERVED = frozenset(("let", "param", "include", "from", "in", "as", "true", "false", "null"))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"(\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?) ?([A-Za-z]+(?: [a-z]+)?|%)?", re.ASCII)
_APART = ("epoch", "epochs", "step", "steps", "token", "tokens", "stderr", "stderrs", "USD", "EUR", "GBP", "CNY", "JPY")
"""Units with a space before them."""


class UnwritableError(ValueError):
    """A value that the language cannot express; the message is the reason."""


class ReadBackError(RuntimeError):
    """The printed text does not parse to the same tree: a bug of this module. The text must not be written."""


@frozen
class Margin:
    """Comments of an item: lines `above` it, `behind` it on its line, lines `inside` a block before its first item;
    `apart`: an empty line precedes it."""

    above: tuple[str, ...] = ()
    behind: str = ""
    inside: tuple[str, ...] = ()
    apart: bool = False


# --- making trees


def word(text: str) -> tree.Word:
    """A name. Raises: UnwritableError if invalid."""
    if not _NAME.fullmatch(text) or text in RESERVED:
        raise UnwritableError("it is not a valid name")
    return tree.Word(text, NOWHERE)


def ref(*names: str) -> tree.Ref:
    """`a.b`. Raises: UnwritableError."""
    return tree.Ref(tuple(map(word, names)), NOWHERE)


def text(content: str) -> tree.Text:
    """A string. Raises: UnwritableError for a null character or a lone surrogate."""
    if "\0" in content:
        raise UnwritableError("a text cannot contain a null character")
    if any(0xD800 <= ord(char) < 0xE000 for char in content):
        raise UnwritableError("it contains half of a surrogate pair")
    return tree.Text((content,) if content else (), NOWHERE)


def quantity(written: str) -> tree.Expression:
    """`5%`, `-1`, `3 epochs`, `500M tokens`, `512 * 512`. Raises: UnwritableError if it is not a number."""
    if " * " in written:
        left, _, right = written.partition(" * ")
        return tree.Binary("*", quantity(left), quantity(right), NOWHERE)
    if written.startswith("-"):
        return tree.Negative(quantity(written[1:]), NOWHERE)
    match = _NUMBER.fullmatch(written)
    if match is None:
        raise UnwritableError("it is not a number")
    number, unit = match[1], match[2] or ""
    if unit and "e" in number.lower():  # `1e3k` would parse as a number and a name
        number = format(Decimal(number.replace("_", "")), "f")
    return tree.Quantity(number, unit, NOWHERE, NOWHERE)


def call(name: str, positional: Sequence[tree.Expression], named: Mapping[str, tree.Expression]) -> tree.Expression:
    """`name(…)`; the bare name without arguments. Raises: UnwritableError."""
    positional_arguments = [tree.Argument(None, value, NOWHERE) for value in positional]
    keyword_arguments = [tree.Argument(word(key), value, NOWHERE) for key, value in named.items()]
    if not positional_arguments and not keyword_arguments:
        return ref(name)
    return tree.Call((word(name),), (*positional_arguments, *keyword_arguments), NOWHERE)


def constant(value: bool | None) -> tree.Constant:
    return tree.Constant(value, NOWHERE)


def bind(key: Sequence[str], value: tree.Expression, binder: tree.Binder = tree.Binder.FIXED) -> tree.Bind:
    """`key = value`, `key in [a, b]`. Raises: UnwritableError."""
    return tree.Bind(tuple(map(word, key)), binder, value, NOWHERE)


def block(kind: str, body: Sequence[tree.Item], name: str = "", parents: Sequence[str] = ()) -> tree.Block:
    """`kind name from parents { body }`. Raises: UnwritableError."""
    label = word(name) if name else None
    return tree.Block(word(kind), label, tuple(ref(parent) for parent in parents), tuple(body), NOWHERE, NOWHERE)


def param(name: str, kind: str) -> tree.Param:
    """`param name: kind`. Raises: UnwritableError."""
    return tree.Param(word(name), tree.TypeName(word(kind), (), False, NOWHERE), None, NOWHERE)


# --- printing


def printed(expression: tree.Expression) -> str:
    """The text of an expression."""
    match expression:
        case tree.Quantity(number, unit):
            return f"{number}{' ' if unit in _APART else ''}{unit}" if unit else number
        case tree.Text(parts):
            return string(parts)
        case tree.Constant(value):
            return {True: "true", False: "false", None: "null"}[value]
        case tree.Ref(path):
            return ".".join(name.text for name in path)
        case tree.Call(path, arguments):
            return f"{'.'.join(name.text for name in path)}({', '.join(map(_argument, arguments))})"
        case tree.ListOf(items):
            return f"[{', '.join(map(printed, items))}]"
        case tree.Binary(op, left, right):
            return f"{_operand(left)} {op} {_operand(right)}"
        case tree.Negative(value):
            return f"-{_operand(value)}"
    raise UnwritableError("the value is missing")


def _operand(expression: tree.Expression) -> str:
    inner = printed(expression)
    return f"({inner})" if isinstance(expression, tree.Binary) else inner


def _argument(argument: tree.Argument) -> str:
    return f"{argument.name.text} = {printed(argument.value)}" if argument.name else printed(argument.value)


def string(parts: Sequence[str | tree.Hole]) -> str:
    """A string literal for these parts; a raw one where braces or backslashes would need escapes, if possible."""
    plain = "".join(part for part in parts if isinstance(part, str))
    only_text = not any(isinstance(part, tree.Hole) for part in parts)
    if only_text and re.search(r'[\\{}"]', plain) and "'" not in plain and plain.isprintable():
        return f"'{plain}'"
    written = [_piece(part, after) for part, after in pairwise([*parts, ""])]
    return '"' + "".join(written) + '"'


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "{": "{{", "}": "}}"}


def _piece(part: str | tree.Hole, after: str | tree.Hole) -> str:
    if isinstance(part, tree.Hole):
        return "{" + ".".join(name.text for name in part.path) + "}"
    escaped = "".join(_ESCAPES.get(char) or (char if char.isprintable() else f"\\u{{{ord(char):x}}}") for char in part)
    if isinstance(after, tree.Hole):
        escaped = re.sub(r"\$$", r"\\u{24}", escaped)
    return escaped.replace("${{", "\\u{24}{{")  # `${` is for the shell and has no escape


def comment(content: str) -> str:
    """The text of a comment: one line, printable, and never a valid `ftc: allow`."""
    shown = "".join(char if char.isprintable() else " " for char in content)
    return re.sub(r"ftc:\s+allow", "ftc:allow", shown).strip()


class _Printer:
    """Items to lines."""

    def __init__(self, margins: Mapping[tree.Item, Margin]) -> None:
        self.margins = margins
        self.lines: list[str] = []
        self.comments: list[str] = []

    def put(self, line: str, behind: str = "") -> None:
        if behind := comment(behind):
            self.comments.append(f"# {behind}")
            line = f"{line} # {behind}"
        self.lines.append(line)

    def note(self, content: str) -> None:
        self.comments.append(f"# {comment(content)}".rstrip())
        self.lines.append(self.comments[-1])

    def item(self, item: tree.Item) -> None:
        margin = self.margins.get(item, Margin())
        if margin.apart:
            self.lines.append("")
        for remark in margin.above:
            self.note(remark)
        match item:
            case tree.Bind(_, _, value):
                self._bind(item, value, margin)
            case tree.Block():
                self._block(item, margin)
            case tree.Param(name, kind):
                self.put(f"param {name.text}: {kind.name.text}" if kind else f"param {name.text}", margin.behind)
            case _:
                raise UnwritableError("this kind of item is not generated")

    def _bind(self, item: tree.Bind, value: tree.Expression, margin: Margin) -> None:
        line = _bound(item)
        if len(line) <= WIDTH or not isinstance(value, tree.ListOf) or len(value.items) < 2:
            self.put(line, margin.behind)
            return
        self.put(f"{_key(item)} {item.binder} [")
        for element in value.items:
            self.put(f"{printed(element)},")
        self.put("]", margin.behind)

    def _block(self, item: tree.Block, margin: Margin) -> None:
        head = _head(item)
        if (line := self._short(item, head)) is not None:
            self.put(line, margin.behind or self._remarks(item))
            return
        self.put(f"{head} {{", margin.behind)
        for remark in margin.inside:
            self.note(remark)
        for inner in item.body:
            self.item(inner)
        self.put("}")

    def _short(self, item: tree.Block, head: str) -> str | None:
        """The block on one line; None if it needs several."""
        margins = [self.margins.get(inner, Margin()) for inner in item.body]
        margin = self.margins.get(item, Margin())
        remarks = bool(margin.behind) + sum(bool(inner.behind) for inner in margins)
        if item.kind.text in STAGE_KINDS or margin.inside or remarks > 1 or any(inner.above for inner in margins):
            return None
        if not all(isinstance(inner, tree.Bind) for inner in item.body):
            return None
        items = [_bound(inner) for inner in item.body if isinstance(inner, tree.Bind)]
        line = f"{head} {{ {', '.join(items)} }}" if items else f"{head} {{}}"
        return line if len(line) <= WIDTH else None

    def _remarks(self, item: tree.Block) -> str:
        return next((margin.behind for inner in item.body if (margin := self.margins.get(inner)) and margin.behind), "")


def _key(item: tree.Bind) -> str:
    return ".".join(name.text for name in item.key)


def _bound(item: tree.Bind) -> str:
    return f"{_key(item)} {item.binder} {printed(item.value)}"


def _head(item: tree.Block) -> str:
    parts = [item.kind.text, *([item.label.text] if item.label else [])]
    parents = ", ".join(printed(parent) for parent in item.parents)
    return " ".join([*parts, *([f"from {parents}"] if parents else [])])


def recipe_text(items: Sequence[tree.Item], margins: Mapping[tree.Item, Margin], head: Sequence[str] = ()) -> str:
    """The formatted text of a recipe; `head`: comments at its top, followed by an empty line.

    Raises: UnwritableError if the tree has something the language cannot express, ReadBackError if the text parses differently.
    """
    printer = _Printer(margins)
    for line in head:
        printer.note(line)
    if head:
        printer.lines.append("")
    for item in items:
        printer.item(item)
    text = "\n".join(printer.lines).strip() + "\n"
    formatted = format_text(Source("recipe.ft", text)) or text
    sink = Sink()
    parsed = parse(Source("recipe.ft", formatted), sink)
    if sink.failed or shape(parsed.items) != shape(items):
        raise ReadBackError("the printed recipe does not parse to the same tree; nothing was written")
    if [remark.text.rstrip() for remark in parsed.comments] != printer.comments:
        raise ReadBackError("a printed comment does not parse to the same text; nothing was written")
    return formatted


def shape(node: Any) -> Any:
    """A tree without spans, to compare content."""
    if isinstance(node, tuple | list):
        return tuple(map(shape, node))
    if isinstance(node, tree.Text):
        return ("Text", _joined(node.parts))
    if isinstance(node, tree.Word):
        return node.text
    names = [name for name in getattr(node, "__match_args__", ()) if name not in ("span", "unit_span", "header")]
    return (type(node).__name__, *(shape(getattr(node, name)) for name in names)) if names else node


def _joined(parts: Sequence[str | tree.Hole]) -> tuple[Any, ...]:
    """Adjacent texts joined, since their boundaries have no meaning."""
    joined: list[Any] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part if isinstance(part, str) else shape(part))
    return tuple(joined)
