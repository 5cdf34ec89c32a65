"""Applies steps to YAML and JSON in place: only changed keys and values are edited, comments stay."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl.diagnostics.model import Edit
from ftdsl.language.yaml_tree import Entry, Node, removal
from ftdsl.source import Span
from ftdsl.upgrade.steps import Step


def keys(root: Node, nested: bool) -> dict[str, tuple[Node, Entry]]:
    """Key -> (its map, its entry): the keys of the top level, or (nested) all keys by dotted path."""
    entries: dict[str, tuple[Node, Entry]] = {}
    for entry in root.entries:
        entries[entry.key] = (root, entry)
        if nested and entry.value.kind == "map" and not entry.alias:
            entries |= {f"{entry.key}.{key}": location for key, location in keys(entry.value, nested).items()}
    return entries


def values(root: Node, nested: bool) -> dict[str, Any]:
    return {key: entry.value.value for key, (_, entry) in keys(root, nested).items()}


def edits(step: Step, locations: Mapping[str, tuple[Node, Entry]]) -> list[Edit] | None:
    """The edits of a step; None if a new key would belong into something that is not a map."""
    assert step.becomes is not None
    parent, entry = locations[step.key]
    prefix = f"{step.key.rpartition('.')[0]}." if "." in step.key else ""
    results = [edit for name in step.also for edit in _removed(*locations[name])]
    wanted = {name.removeprefix(prefix): value for name, value in step.becomes.items()}
    if not wanted:
        return results + _removed(parent, entry)
    if wanted.keys() == {entry.key}:
        return [*results, Edit(entry.value.span, _text(wanted[entry.key], parent))]
    into = {name for name in wanted if "." in name and parent.entry(name.partition(".")[0])}
    rest = {name: value for name, value in wanted.items() if name not in into}
    for name in sorted(into):
        inner = _put_in(parent, name, wanted[name])
        if inner is None:
            return None
        results.append(inner)
    if not rest:
        return results + _removed(parent, entry)
    return [*results, *_in_place(parent, entry, rest)]


def _in_place(parent: Node, entry: Entry, wanted: Mapping[str, Any]) -> Iterator[Edit]:
    """The first key replaces the old one, the others follow it."""
    (name, value), *more = wanted.items()
    quote = entry.name.text[:1] if entry.name.text[:1] in "\"'" else ""
    if "." not in name:
        yield Edit(entry.name, f"{quote}{name}{quote}")
        if value != entry.value.value:
            yield Edit(entry.value.span, _text(value, parent))
    else:
        yield Edit(entry.span, _pair(parent, entry, name, value))
    joint = ", " if parent.flow else f"\n{' ' * _column(entry)}"
    if parent.flow and "\n" in parent.span.text:
        joint = f",\n{' ' * _column(entry)}"
    if more:
        end = entry.span.end if parent.flow else _line_end(entry)
        text = "".join(f"{joint}{_pair(parent, entry, name, value)}" for name, value in more)
        yield Edit(Span(entry.name.source, end, end), text)


def _pair(parent: Node, entry: Entry, name: str, value: Any) -> str:
    """`key: value`, nested if the name is dotted."""
    quote = entry.name.text[:1] if entry.name.text[:1] in "\"'" else ""
    outer, dot, inner = name.partition(".")
    if not dot:
        return f"{quote}{name}{quote}: {_text(value, parent)}"
    if parent.flow:
        return f"{quote}{outer}{quote}: {{{_pair(parent, entry, inner, value)}}}"
    return f"{outer}:\n{' ' * (_column(entry) + 2)}{inner}: {_text(value, parent)}"


def _put_in(parent: Node, name: str, value: Any) -> Edit | None:
    """Append a key to an existing map."""
    outer, _, inner = name.partition(".")
    holder = parent.entry(outer)
    if holder is None or holder.value.kind != "map" or holder.alias or holder.value.entry(inner) or "." in inner:
        return None
    target = holder.value
    if not target.entries:
        return Edit(target.span, f"{{{_quoted(inner, parent)}: {_text(value, parent)}}}")
    last = target.entries[-1]
    joint = ", " if target.flow else f"\n{' ' * _column(last)}"
    end = last.span.end
    return Edit(Span(last.name.source, end, end), f"{joint}{_quoted(inner, target)}: {_text(value, target)}")


def _quoted(name: str, parent: Node) -> str:
    first = parent.entries[0].name.text[:1] if parent.entries else ""
    return f'"{name}"' if first == '"' else name


def _removed(parent: Node, entry: Entry) -> list[Edit]:
    """Remove the entry; a comment behind it stays, on a line of its own."""
    edit = removal(parent, entry)
    source = entry.name.source
    behind = source.text[entry.span.end : _line_end(entry)].strip()
    if parent.flow or not behind.startswith("#"):
        return [edit]
    indent = source.text[edit.span.start : entry.name.start]
    return [Edit(edit.span, f"{indent}{behind}\n")]


def _line_end(entry: Entry) -> int:
    """The end of the line on which an entry ends, including a comment."""
    source = entry.name.source
    number = source.position(entry.span.end)[0]
    return source.line_starts[number - 1] + len(source.line(number))


def _column(entry: Entry) -> int:
    return entry.name.source.position(entry.name.start)[1] - 1


def _text(value: Any, parent: Node) -> str:
    """A value in the syntax of the document."""
    if parent.entries and parent.entries[0].name.text.startswith('"'):
        return json.dumps(value, ensure_ascii=False)
    import yaml

    return (
        str(yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True))
        .removesuffix("...\n")
        .strip()
    )
