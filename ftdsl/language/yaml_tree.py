"""YAML and JSON documents with spans, for checks, imports and edits that keep the rest of the text.

Input: a `Source`. Output: a tree of `Node` whose spans are offsets in that source. Scalars are read as OmegaConf (and so
LLaMA-Factory) reads them: YAML 1.1, with `1e-4` a number and dates as text (omegaconf/_utils.py, get_yaml_loader). JSON is parsed
as YAML, with tabs allowed. Needs PyYAML, so import this module where it is used.

All YAML is read here. Values are null, booleans, numbers that fit a float, encodable texts, and lists and maps of these; other
tags, and texts invalid for their tag, are errors at their span. Size, depth and expanded aliases are limited.
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

MAX_SIZE = 1 << 20
"""Maximum number of characters. PyYAML reads about 150,000 per second; configurations are smaller."""

MAX_DEPTH = 100
"""Maximum nesting of lists and maps."""

MAX_VALUES = 30_000
"""Maximum number of values with aliases expanded: nine levels of nine aliases are 400 bytes, and 400 million values."""


@frozen
class Node:
    """A node of a document. `scalar`: the value of a scalar; `plain`: a scalar without quotes; `flow`: `{ }` or `[ ]` style.

    `entries`: of a map, in order, with duplicates; `items`: of a list.
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
        """The node as plain Python. The last of duplicate keys wins; `<<` adds the keys that the map lacks."""
        if self.kind == "scalar":
            return self.scalar
        if self.kind == "list":
            return [item.value for item in self.items]
        merged: dict[str, Any] = {}
        for entry in self.entries:
            if entry.key == "<<":
                for source in entry.value.items if entry.value.kind == "list" else (entry.value,):
                    if isinstance(source.value, dict):
                        merged = {**source.value, **merged}
        return merged | {entry.key: entry.value.value for entry in self.entries if entry.key != "<<"}

    def entry(self, key: str) -> Entry | None:
        """The last entry of a key, which is the one in effect."""
        return next((entry for entry in reversed(self.entries) if entry.key == key), None)

    def at(self, *path: str | int) -> Node | None:
        """The node at a path of keys and indices, or None."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(step, int):
                node = node.items[step] if step < len(node.items) else None
            else:
                node = entry.value if (entry := node.entry(step)) else None
        return node

    def walk(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Entry]]:
        """Every entry of every map with its path, in source order."""
        for entry in self.entries:
            yield (*path, entry.key), entry
            yield from entry.value.walk((*path, entry.key))
        for index, item in enumerate(self.items):
            yield from item.walk((*path, index))


@frozen
class Entry:
    """`key: value`; `name` is the span of the key."""

    key: str
    name: Span
    value: Node
    alias: bool = field(default=False)

    @property
    def span(self) -> Span:
        """From the key to the end of the value; for an alias only the key, since its value is elsewhere."""
        return self.name if self.alias else self.name.to(self.value.span)


def read(source: Source, sink: Sink) -> Node | None:
    """The tree of a source with one document; None, and FT050 in the sink, if it cannot be parsed.

    A value that is invalid for its tag (`!!int x`) is also FT050, and becomes null, so that the rest can be checked.
    """
    json = source.text.lstrip().startswith(("{", "["))
    try:
        if len(source.text) > MAX_SIZE:
            raise yaml.YAMLError(f"it is larger than {MAX_SIZE >> 20} MiB")
        raw = _compose(source.text.replace("\t", " ") if json else source.text)
        if raw is None:
            sink.error("FT050", "the file is empty", Span(source, 0, 0))
            return None
        return _Tree(source, sink, json=json).node(raw)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        message, at = _problem(error, len(source.text))
        sink.error("FT050", message, Span(source, at, min(at + 1, len(source.text))))
        return None


def scalar(text: str) -> Any:
    """The value of a text in YAML (`1e-4`: a number, `true`: a boolean); the text itself if it is not YAML."""
    sink = Sink()
    node = read(Source("", text), sink) if text.strip() else None
    return text if node is None or sink.failed else node.value


def removal(parent: Node, entry: Entry) -> Edit:
    """The edit that removes an entry: whole lines in block style, with its comma in flow style."""
    source, text = entry.name.source, entry.name.source.text
    if not parent.flow:
        start = source.line_starts[source.position(entry.name.start)[0] - 1]
        if text[start : entry.name.start].strip():  # `- key: value`: keep the dash
            start = entry.name.start
        last = source.position(entry.span.end)[0]
        end = source.line_starts[last] if last < len(source.line_starts) else len(text)
        return Edit(Span(source, start, end), "")
    index = parent.entries.index(entry)
    if index + 1 < len(parent.entries):
        return Edit(Span(source, entry.name.start, parent.entries[index + 1].name.start), "")
    start = parent.entries[index - 1].span.end if index else entry.name.start
    return Edit(Span(source, start, entry.span.end), "")


_TOO_MANY = f"more than {MAX_VALUES:,} values up to here, with aliases expanded"


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with OmegaConf's two changes, limited to `MAX_DEPTH` and `MAX_VALUES`."""

    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.count += 1
        if self.depth > MAX_DEPTH or self.count > 2 * MAX_VALUES:  # keys are nodes too
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            problem = _TOO_MANY if self.depth <= MAX_DEPTH else "this is nested too deeply"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


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


def _problem(error: Exception, length: int) -> tuple[str, int]:
    """(message, offset) of an error."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return str(error.problem or error.context), min(mark.index, length) if mark else 0
    if isinstance(error, yaml.reader.ReaderError):
        return f"YAML does not allow the character {error.character!r}", min(error.position, length)
    if isinstance(error, RecursionError):
        return "this is nested too deeply", 0
    return str(error) or "the file cannot be parsed", 0


_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str"))
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Tree:
    """Converts PyYAML's nodes."""

    def __init__(self, source: Source, sink: Sink, *, json: bool) -> None:
        self.source = source
        self.sink = sink
        self.json = json
        self.loader = _Loader("")
        self.known: dict[int, Node] = {}
        self.open: set[int] = set()
        self.sizes: dict[int, int] = {}

    def node(self, raw: yaml.Node) -> Node:
        if id(raw) not in self.known:
            if id(raw) in self.open:
                raise yaml.MarkedYAMLError(
                    problem="an alias refers to a value that contains it", problem_mark=raw.start_mark
                )
            self.open.add(id(raw))
            self.known[id(raw)] = self._made(raw)
            self.open.discard(id(raw))
        return self.known[id(raw)]

    def _made(self, raw: yaml.Node) -> Node:
        if isinstance(raw, yaml.ScalarNode):
            self.sizes[id(raw)] = 1
            return Node("scalar", self._span(raw), self._scalar(raw), plain=not raw.style)
        if isinstance(raw, yaml.SequenceNode):
            self._tag(raw, "seq")
            items = tuple(self.node(item) for item in raw.value)
            self._size(raw, raw.value)
            return Node("list", self._span(raw), flow=bool(raw.flow_style), items=items)
        assert isinstance(raw, yaml.MappingNode)
        self._tag(raw, "map")
        entries = tuple(self._entry(key, value) for key, value in raw.value)
        self._size(raw, [value for _, value in raw.value])
        return Node("map", self._span(raw), flow=bool(raw.flow_style), entries=entries)

    def _size(self, raw: yaml.Node, inner: list[yaml.Node]) -> None:
        """Record the number of values with aliases expanded. Raises: YAMLError if there are too many."""
        size = 1 + sum(self.sizes[id(node)] for node in inner)
        if size > MAX_VALUES:
            raise yaml.MarkedYAMLError(problem=_TOO_MANY, problem_mark=raw.start_mark)
        self.sizes[id(raw)] = size

    def _tag(self, raw: yaml.Node, name: str) -> None:
        if raw.tag != f"{_TAG}{name}":
            self._refuse(raw, f"a configuration cannot contain {_shown(raw.tag)}")

    def _scalar(self, raw: yaml.ScalarNode) -> Any:
        """The value of a scalar; None, and FT050, if it is invalid for its tag."""
        if raw.tag not in _SCALARS:
            self._refuse(raw, f"a configuration cannot contain {_shown(raw.tag)}")
            return None
        try:
            value = self.loader.construct_object(raw)
            if isinstance(value, int):
                float(value)  # it must fit a float
        except (yaml.YAMLError, LookupError, ValueError, AttributeError, OverflowError, TypeError):
            self._refuse(raw, f"this cannot be read as {_shown(raw.tag)}")
            return None
        return self._text(raw, value) if isinstance(value, str) else value

    def _text(self, raw: yaml.Node, text: str) -> str | None:
        """JSON escapes characters above 16 bits as surrogate pairs, which YAML does not join. A lone surrogate is an error."""
        if not _SURROGATE.search(text):
            return text
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if self.json else text
        halves = _SURROGATE.search(joined) or joined.count("\ufffd") > text.count("\ufffd")
        if halves:
            self._refuse(raw, "this text contains half of a surrogate pair")
        return None if halves else joined

    def _refuse(self, raw: yaml.Node, problem: str) -> None:
        self.sink.error("FT050", problem, self._span(raw))

    def _entry(self, key: yaml.Node, value: yaml.Node) -> Entry:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key must be a scalar", problem_mark=key.start_mark)
        name = self._text(key, key.value) or ""
        return Entry(name, self._span(key), self.node(value), alias=value.start_mark.index < key.start_mark.index)

    def _span(self, raw: yaml.Node) -> Span:
        """The span without trailing blanks. For PyYAML, block collections and block text extend to the next token."""
        start, end = raw.start_mark.index, raw.end_mark.index
        if isinstance(raw, yaml.CollectionNode) and not raw.flow_style and raw.value:
            last = raw.value[-1][1] if isinstance(raw, yaml.MappingNode) else raw.value[-1]
            if last.end_mark.index > start:
                end = min(end, max(start, self._span(last).end))
        text = self.source.text
        while end > start and text[end - 1] in " \t\r\n":
            end -= 1
        return Span(self.source, start, end)


def _shown(tag: str) -> str:
    """A tag in its short form."""
    written = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
    return f"`{written[:40]}`"
