"""A configuration as lines (dotted path, value, reason), nested into a document that keeps the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ftdsl.engines.jobs import Document
from ftdsl.engines.shared.overlay import plain
from ftdsl.record import frozen


@frozen
class ConfigLine:
    """why: the dotted key of the recipe that decides the value (`parallel.strategy`), or a sentence."""

    path: str
    value: Any
    why: str


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`, in the order given; a value where a table belongs gives way to the table."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *sections, name = path.split(".")
        parent = tree
        for section in sections:
            if not isinstance(parent.get(section), dict):
                parent[section] = {}
            parent = parent[section]
        parent[name] = value
    return tree


def with_passthrough(lines: Iterable[ConfigLine], block: str, written: Mapping[str, Any]) -> list[ConfigLine]:
    """The lines, overridden by the author's own passthrough block."""
    ours = {line.path: line for line in lines}
    return list(
        (ours | {path: ConfigLine(path, plain(value), f"{block}.{path}") for path, value in written.items()}).values()
    )


def document(path: str, kind: Any, lines: Iterable[ConfigLine], header: tuple[str, ...] = ()) -> Document:
    """The lines as a file, with the reason of each."""
    lines = list(lines)
    data = nest({line.path: line.value for line in lines})
    return Document(path, kind, data, header, why={line.path: line.why for line in lines})
