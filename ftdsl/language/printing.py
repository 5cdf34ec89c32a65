"""Syntax trees to text, for recipes that a program makes.

Given: items of the tree, made with the functions here. Gives: the text in the one style. What a value holds can become
nothing but that value: names are names or refused, texts are quoted, comments stay on their line, and what was printed is
parsed again and must give the same tree.
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
_APART = ("epoch", "epochs", "step", "steps", "token", "tokens", "USD", "EUR", "GBP", "CNY", "JPY")
"""Units that a blank parts from their number."""


class UnwritableError(ValueError):
    """A value that the language cannot say; the message is what is wrong with it."""


class ReadBackError(RuntimeError):
    """What was printed does not read back as the tree it was printed from: a bug here, and nothing to be written."""


@frozen
class Margin:
    """Comments of an item: on lines of their own `above` it, `behind` it, `inside` a block before its first item;
    `apart`: an empty line stands before it."""

    above: tuple[str, ...] = ()
    behind: str = ""
    inside: tuple[str, ...] = ()
    apart: bool = False


# --- making trees


def word(text: str) -> tree.Word:
    """A name. Raises: UnwritableError for what is none."""
    if not _NAME.fullmatch(text) or text in RESERVED:
        raise UnwritableError("it is no name")
    return tree.Word(text, NOWHERE)


def ref(*names: str) -> tree.Ref:
    """`a.b`. Raises: UnwritableError."""
    return tree.Ref(tuple(map(word, names)), NOWHERE)


def text(content: str) -> tree.Text:
    """A string. Raises: UnwritableError for what no file and no command can hold."""
    if "\0" in content:
        raise UnwritableError("a text cannot hold a null character")
    if any(0xD800 <= ord(char) < 0xE000 for char in content):
        raise UnwritableError("it holds half a character")
    return tree.Text((content,) if content else (), NOWHERE)


def quantity(written: str) -> tree.Expression:
    """`5%`, `-1`, `3 epochs`, `500M tokens`, `512 * 512`. Raises: UnwritableError for what is no number."""
    if " * " in written:
        left, _, right = written.partition(" * ")
        return tree.Binary("*", quantity(left), quantity(right), NOWHERE)
    if written.startswith("-"):
        return tree.Negative(quantity(written[1:]), NOWHERE)
    match = _NUMBER.fullmatch(written)
    if match is None:
        raise UnwritableError("it is no number")
    number, unit = match[1], match[2] or ""
    if unit and "e" in number.lower():  # `1e3k` would be read as a name behind a number
        number = format(Decimal(number.replace("_", "")), "f")
    return tree.Quantity(number, unit, NOWHERE, NOWHERE)


def call(name: str, positional: Sequence[tree.Expression], named: Mapping[str, tree.Expression]) -> tree.Expression:
    """`name(…)`; the bare name without arguments. Raises: UnwritableError."""
    unnamed = [tree.Argument(None, value, NOWHERE) for value in positional]
    others = [tree.Argument(word(key), value, NOWHERE) for key, value in named.items()]
    if not unnamed and not others:
        return ref(name)
    return tree.Call((word(name),), (*unnamed, *others), NOWHERE)


def constant(value: bool | None) -> tree.Constant:
    return tree.Constant(value, NOWHERE)


def bind(key: Sequence[str], value: tree.Expression, binder: tree.Binder = tree.Binder.FIXED) -> tree.Bind:
    """`key = value`, `key in [a, b]`. Raises: UnwritableError."""
    return tree.Bind(tuple(map(word, key)), binder, value, NOWHERE)


def block(kind: str, body: Sequence[tree.Item], name: str = "", parents: Sequence[str] = ()) -> tree.Block:
    """`kind name from parents { body }`. Raises: UnwritableError."""
    label = word(name) if name else None
    return tree.Block(word(kind), label, tuple(ref(one) for one in parents), tuple(body), NOWHERE, NOWHERE)


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
            return ".".join(one.text for one in path)
        case tree.Call(path, arguments):
            return f"{'.'.join(one.text for one in path)}({', '.join(map(_argument, arguments))})"
        case tree.ListOf(items):
            return f"[{', '.join(map(printed, items))}]"
        case tree.Binary(op, left, right):
            return f"{_operand(left)} {op} {_operand(right)}"
        case tree.Negative(value):
            return f"-{_operand(value)}"
    raise UnwritableError("there is no value")


def _operand(expression: tree.Expression) -> str:
    inner = printed(expression)
    return f"({inner})" if isinstance(expression, tree.Binary) else inner


def _argument(argument: tree.Argument) -> str:
    return f"{argument.name.text} = {printed(argument.value)}" if argument.name else printed(argument.value)


def string(parts: Sequence[str | tree.Hole]) -> str:
    """A string that reads back as these parts: raw where braces or backslashes would need escapes, and it can be."""
    plain = "".join(part for part in parts if isinstance(part, str))
    only_text = not any(isinstance(part, tree.Hole) for part in parts)
    if only_text and re.search(r'[\\{}"]', plain) and "'" not in plain and plain.isprintable():
        return f"'{plain}'"
    written = [_piece(part, after) for part, after in pairwise([*parts, ""])]
    return '"' + "".join(written) + '"'


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "{": "{{", "}": "}}"}


def _piece(part: str | tree.Hole, after: str | tree.Hole) -> str:
    if isinstance(part, tree.Hole):
        return "{" + ".".join(one.text for one in part.path) + "}"
    escaped = "".join(_ESCAPES.get(char) or (char if char.isprintable() else f"\\u{{{ord(char):x}}}") for char in part)
    if isinstance(after, tree.Hole):
        escaped = re.sub(r"\$$", r"\\u{24}", escaped)
    return escaped.replace("${{", "\\u{24}{{")  # `${` is the shell's, and left alone


def comment(content: str) -> str:
    """A comment's text: on one line, visible as it is, and no `allow` of ours, whatever it quotes."""
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
        for one in margin.above:
            self.note(one)
        match item:
            case tree.Bind(_, _, value):
                self._bind(item, value, margin)
            case tree.Block():
                self._block(item, margin)
            case tree.Param(name, kind):
                self.put(f"param {name.text}: {kind.name.text}" if kind else f"param {name.text}", margin.behind)
            case _:
                raise UnwritableError("such an item is never made")

    def _bind(self, item: tree.Bind, value: tree.Expression, margin: Margin) -> None:
        line = _bound(item)
        if len(line) <= WIDTH or not isinstance(value, tree.ListOf) or len(value.items) < 2:
            self.put(line, margin.behind)
            return
        self.put(f"{_key(item)} {item.binder} [")
        for one in value.items:
            self.put(f"{printed(one)},")
        self.put("]", margin.behind)

    def _block(self, item: tree.Block, margin: Margin) -> None:
        head = _head(item)
        if (line := self._short(item, head)) is not None:
            self.put(line, margin.behind or self._remarks(item))
            return
        self.put(f"{head} {{", margin.behind)
        for one in margin.inside:
            self.note(one)
        for inner in item.body:
            self.item(inner)
        self.put("}")

    def _short(self, item: tree.Block, head: str) -> str | None:
        """The block on one line; None where it has to be on several."""
        margins = [self.margins.get(inner, Margin()) for inner in item.body]
        own = self.margins.get(item, Margin())
        remarks = bool(own.behind) + sum(bool(one.behind) for one in margins)
        if item.kind.text in STAGE_KINDS or own.inside or remarks > 1 or any(one.above for one in margins):
            return None
        if not all(isinstance(inner, tree.Bind) for inner in item.body):
            return None
        items = [_bound(inner) for inner in item.body if isinstance(inner, tree.Bind)]
        line = f"{head} {{ {', '.join(items)} }}" if items else f"{head} {{}}"
        return line if len(line) <= WIDTH else None

    def _remarks(self, item: tree.Block) -> str:
        return next((margin.behind for one in item.body if (margin := self.margins.get(one)) and margin.behind), "")


def _key(item: tree.Bind) -> str:
    return ".".join(one.text for one in item.key)


def _bound(item: tree.Bind) -> str:
    return f"{_key(item)} {item.binder} {printed(item.value)}"


def _head(item: tree.Block) -> str:
    parts = [item.kind.text, *([item.label.text] if item.label else [])]
    parents = ", ".join(printed(one) for one in item.parents)
    return " ".join([*parts, *([f"from {parents}"] if parents else [])])


def recipe_text(items: Sequence[tree.Item], margins: Mapping[tree.Item, Margin], head: Sequence[str] = ()) -> str:
    """The text of a recipe in the one style; `head` are comments at its top, before an empty line.

    Raises: UnwritableError for a tree that holds what cannot be written, ReadBackError when the text reads otherwise.
    """
    printer = _Printer(margins)
    for line in head:
        printer.note(line)
    if head:
        printer.lines.append("")
    for item in items:
        printer.item(item)
    raw = "\n".join(printer.lines).strip() + "\n"
    done = format_text(Source("recipe.ft", raw)) or raw
    sink = Sink()
    again = parse(Source("recipe.ft", done), sink)
    if sink.failed or shape(again.items) != shape(items):
        raise ReadBackError("a recipe was printed that does not read back as it was meant; nothing was written")
    if [one.text.rstrip() for one in again.comments] != printer.comments:
        raise ReadBackError("a comment was printed that does not read back as it was meant; nothing was written")
    return done


def shape(node: Any) -> Any:
    """What a tree says, without places: equal for two trees that say the same."""
    if isinstance(node, tuple | list):
        return tuple(map(shape, node))
    if isinstance(node, tree.Text):
        return ("Text", _joined(node.parts))
    if isinstance(node, tree.Word):
        return node.text
    names = [name for name in getattr(node, "__match_args__", ()) if name not in ("span", "unit_span", "header")]
    return (type(node).__name__, *(shape(getattr(node, name)) for name in names)) if names else node


def _joined(parts: Sequence[str | tree.Hole]) -> tuple[Any, ...]:
    """Neighbouring texts as one: where they are cut means nothing."""
    found: list[Any] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part if isinstance(part, str) else shape(part))
    return tuple(found)
