"""A configuration as rows: dotted path, value, and why it is so; nested into the document, the reasons kept beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ftdsl.engines.jobs import Document
from ftdsl.engines.shared.overlay import plain
from ftdsl.record import frozen


@frozen
class ConfigLine:
    """`why` is the dotted key of the recipe that decides the value (`parallel.strategy`), or a sentence."""

    path: str
    value: Any
    why: str


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`, in the order given; a value where a table belongs gives way to the table."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *sections, name = path.split(".")
        here = tree
        for section in sections:
            if not isinstance(here.get(section), dict):
                here[section] = {}
            here = here[section]
        here[name] = value
    return tree


def with_passthrough(rows: Iterable[ConfigLine], block: str, written: Mapping[str, Any]) -> list[ConfigLine]:
    """The rows with what the author's own block says on top."""
    ours = {row.path: row for row in rows}
    return list(
        (ours | {path: ConfigLine(path, plain(value), f"{block}.{path}") for path, value in written.items()}).values()
    )


def document(path: str, kind: Any, rows: Iterable[ConfigLine], header: tuple[str, ...] = ()) -> Document:
    """The rows as a file, with the reason of every line."""
    rows = list(rows)
    data = nest({row.path: row.value for row in rows})
    return Document(path, kind, data, header, why={row.path: row.why for row in rows})
