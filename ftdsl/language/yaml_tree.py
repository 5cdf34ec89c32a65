"""YAML and JSON documents with the place of every part, for checks, imports and rewrites that keep the rest as it is.

Given a `Source`; gives a tree of `Node` whose spans are offsets in that source, so that an edit touches nothing else.
Scalars are read as OmegaConf (and so LLaMA-Factory) reads them: YAML 1.1, with `1e-4` a number and dates as text
(omegaconf/_utils.py, get_yaml_loader). JSON is YAML, tabs and all. Needs PyYAML, so import it where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import yaml

from ftdsl.diagnostics import Sink
from ftdsl.diagnostics.model import Edit
from ftdsl.record import frozen
from ftdsl.source import Source, Span

Kind: TypeAlias = Literal["map", "list", "scalar"]
KeyPath: TypeAlias = tuple[str | int, ...]


@frozen
class Node:
    """A part of a document. `span` is its own text; `plain` a scalar without quotes; `value` of a scalar is its value.

    `entries` are those of a map, in order, duplicates too; `items` those of a list.
    """

    kind: Kind
    span: Span
    scalar: Any = None
    plain: bool = False
    flow: bool = False
    entries: tuple[Entry, ...] = ()
    items: tuple[Node, ...] = ()

    @cached_property
    def value(self) -> Any:
        """As plain Python. Of keys said twice the last counts; `<<` brings in what the map has not itself."""
        if self.kind == "scalar":
            return self.scalar
        if self.kind == "list":
            return [item.value for item in self.items]
        found: dict[str, Any] = {}
        for entry in self.entries:
            if entry.key == "<<":
                for merged in entry.value.items if entry.value.kind == "list" else (entry.value,):
                    if isinstance(merged.value, dict):
                        found = {**merged.value, **found}
        return found | {entry.key: entry.value.value for entry in self.entries if entry.key != "<<"}

    def entry(self, key: str) -> Entry | None:
        """The entry of a key: the last, which is the one that counts."""
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)

    def at(self, *path: str | int) -> Node | None:
        """The part at a path of keys and positions, or None."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(step, int):
                node = node.items[step] if step < len(node.items) else None
            else:
                node = found.value if (found := node.entry(step)) else None
        return node

    def walk(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Entry]]:
        """Every entry of every map, with its path, in the order of the text."""
        for entry in self.entries:
            yield (*path, entry.key), entry
            yield from entry.value.walk((*path, entry.key))
        for place, item in enumerate(self.items):
            yield from item.walk((*path, place))


@frozen
class Entry:
    """`key: value`, with the key's own place."""

    key: str
    name: Span
    value: Node
    alias: bool = field(default=False)

    @property
    def span(self) -> Span:
        """From the key to the end of the value; of an alias the key only, as its value stands elsewhere."""
        return self.name if self.alias else self.name.to(self.value.span)


def read(source: Source, sink: Sink) -> Node | None:
    """The tree of the one document of a source; None, with FT050 in the sink, when there is none to be read."""
    text = source.text.replace("\t", " ") if source.text.lstrip().startswith(("{", "[")) else source.text
    try:
        raw = _compose(text)
        if raw is None:
            sink.error("FT050", "there is nothing in it", Span(source, 0, 0))
            return None
        return _Tree(source).node(raw)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        message, at = _said(error, len(source.text))
        sink.error("FT050", message, Span(source, at, min(at + 1, len(source.text))))
        return None


def scalar(text: str) -> Any:
    """A text as the value it is in YAML (`1e-4` a number, `true` a switch); the text itself where it is no YAML."""
    node = read(Source("", text), Sink()) if text.strip() else None
    return text if node is None else node.value


def removal(parent: Node, entry: Entry) -> Edit:
    """The edit that takes an entry out: whole lines in block style, with its comma in flow style."""
    source, text = entry.name.source, entry.name.source.text
    if not parent.flow:
        start = source.line_starts[source.position(entry.name.start)[0] - 1]
        if text[start : entry.name.start].strip():  # `- key: value`: the dash stays
            start = entry.name.start
        last = source.position(entry.span.end)[0]
        end = source.line_starts[last] if last < len(source.line_starts) else len(text)
        return Edit(Span(source, start, end), "")
    place = parent.entries.index(entry)
    if place + 1 < len(parent.entries):
        return Edit(Span(source, entry.name.start, parent.entries[place + 1].name.start), "")
    start = parent.entries[place - 1].span.end if place else entry.name.start
    return Edit(Span(source, start, entry.span.end), "")


class _Loader(yaml.SafeLoader):
    """PyYAML's, with the two changes OmegaConf makes."""


_Loader.yaml_implicit_resolvers = {
    char: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(("timestamp", ":float"))]
    for char, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _said(error: Exception, length: int) -> tuple[str, int]:
    """A short fact and the offset it is about."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return str(error.problem or error.context), min(mark.index, length) if mark else 0
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character {error.character!r} may not stand in YAML", min(error.position, length)
    if isinstance(error, RecursionError):
        return "this is nested too deeply to be read", 0
    return str(error) or "this cannot be read", 0


class _Tree:
    """PyYAML's nodes to ours."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.loader = _Loader("")
        self.known: dict[int, Node] = {}
        self.open: set[int] = set()

    def node(self, raw: yaml.Node) -> Node:
        if id(raw) not in self.known:
            if id(raw) in self.open:
                raise yaml.MarkedYAMLError(problem="an alias stands inside what it names", problem_mark=raw.start_mark)
            self.open.add(id(raw))
            self.known[id(raw)] = self._made(raw)
            self.open.discard(id(raw))
        return self.known[id(raw)]

    def _made(self, raw: yaml.Node) -> Node:
        if isinstance(raw, yaml.ScalarNode):
            value = self.loader.construct_object(raw)
            return Node("scalar", self._span(raw), value, plain=not raw.style)
        if isinstance(raw, yaml.SequenceNode):
            items = tuple(self.node(item) for item in raw.value)
            return Node("list", self._span(raw), flow=bool(raw.flow_style), items=items)
        assert isinstance(raw, yaml.MappingNode)
        entries = tuple(self._entry(key, value) for key, value in raw.value)
        return Node("map", self._span(raw), flow=bool(raw.flow_style), entries=entries)

    def _entry(self, key: yaml.Node, value: yaml.Node) -> Entry:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key that is not a word", problem_mark=key.start_mark)
        return Entry(key.value, self._span(key), self.node(value), alias=value.start_mark.index < key.start_mark.index)

    def _span(self, raw: yaml.Node) -> Span:
        """Block collections and block text end, for PyYAML, where the next thing begins; here with their last word."""
        start, end = raw.start_mark.index, raw.end_mark.index
        if isinstance(raw, yaml.CollectionNode) and not raw.flow_style and raw.value:
            last = raw.value[-1][1] if isinstance(raw, yaml.MappingNode) else raw.value[-1]
            if last.end_mark.index > start:
                end = min(end, max(start, self._span(last).end))
        text = self.source.text
        while end > start and text[end - 1] in " \t\r\n":
            end -= 1
        return Span(self.source, start, end)
