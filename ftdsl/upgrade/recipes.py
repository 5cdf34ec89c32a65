"""Applies steps to a recipe: the engine's pin, and passthrough blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl import catalog
from ftdsl.diagnostics.model import Edit
from ftdsl.language import tree
from ftdsl.source import Span
from ftdsl.upgrade.goal import ENGINE
from ftdsl.upgrade.steps import UNREADABLE, Step


def blocks(items: tuple[tree.Item, ...]) -> Iterator[tree.Block]:
    """Every `llamafactory { }`, in any block."""
    for item in items:
        if isinstance(item, tree.Block):
            if item.kind.text == ENGINE:
                yield item
            else:
                yield from blocks(item.body)


def binds(block: tree.Block) -> dict[str, tree.Bind]:
    return {item.key[0].text: item for item in block.body if isinstance(item, tree.Bind) and len(item.key) == 1}


def values(block: tree.Block) -> dict[str, Any]:
    return {key: _value(bind) for key, bind in binds(block).items()}


def pin(file: tree.File) -> tree.Text | None:
    """The version in `engine = llamafactory("…")`."""
    for item in file.items:
        if isinstance(item, tree.Bind) and [word.text for word in item.key] == ["engine"]:
            call = item.value
            if not isinstance(call, tree.Call) or call.path[-1].text != ENGINE:
                continue
            for at, argument in enumerate(call.arguments):
                named = argument.name.text if argument.name else ("version" if at == 0 else "")
                if named == "version" and isinstance(argument.value, tree.Text) and argument.value.plain:
                    return argument.value
    return None


def repinned(text: tree.Text, version: str) -> Edit:
    """The edit that writes another version between the quotes of the pin."""
    start = text.span.start + text.span.text.index(text.plain or "")
    return Edit(Span(text.span.source, start, start + len(text.plain or "")), version)


def edits(step: Step, block: tree.Block) -> list[Edit] | None:
    """The edits of a step; None if it needs a table inside a table."""
    assert step.becomes is not None
    by_key = binds(block)
    if any("." in name for name in step.becomes):
        return None
    results = [_removed(block, by_key[name]) for name in step.also]
    bind = by_key[step.key]
    if not step.becomes:
        return [*results, _removed(block, bind)]
    (name, value), *more = step.becomes.items()
    if name != step.key:
        results.append(Edit(bind.key[0].span, name))
    if value is not UNREADABLE and value != _value(bind):
        results.append(Edit(bind.value.span, _text(value)))
    joint = ", " if _shares_its_line(block, bind) else f"\n{' ' * (_position(bind.span)[1] - 1)}"
    if more:
        text = "".join(f"{joint}{other} = {_text(setting)}" for other, setting in more)
        results.append(Edit(Span(bind.span.source, bind.span.end, bind.span.end), text))
    return results


def misplaced_keys(block: tree.Block) -> Iterator[tuple[Span, str]]:
    """Keys that a key of the language sets: they belong outside the block, and the user must move them."""
    for name, bind in binds(block).items():
        parameter_status = catalog.parameter_status(ENGINE, name)
        if parameter_status is not None and parameter_status.kind == "word":
            yield bind.key[0].span, f"`{name}` has its own key: write `{parameter_status.word} = …` outside the block"


def _value(bind: tree.Bind) -> Any:
    return _plain(bind.value)


def _plain(node: tree.Expression) -> Any:
    if isinstance(node, tree.Constant):
        return node.value
    if isinstance(node, tree.Text):
        return UNREADABLE if node.plain is None else node.plain
    if isinstance(node, tree.Quantity) and not node.unit:
        number = float(node.number.replace("_", ""))
        return int(number) if node.number.replace("_", "").isdigit() else number
    if isinstance(node, tree.Negative):
        inner = _plain(node.value)
        return -inner if isinstance(inner, int | float) else UNREADABLE
    if isinstance(node, tree.ListOf):
        items = [_plain(item) for item in node.items]
        return UNREADABLE if UNREADABLE in items else items
    return UNREADABLE


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("{", "{{").replace("}", "}}")
        return f'"{escaped}"'
    return str(value)


def _position(span: Span) -> tuple[int, int]:
    return span.source.position(span.start)


def _shares_its_line(block: tree.Block, bind: tree.Bind) -> bool:
    line = _position(bind.span)[0]
    neighbours = [item.span for item in block.body if item is not bind] + [block.header]
    return any(_position(span)[0] == line or span.source.position(span.end)[0] == line for span in neighbours)


def _removed(block: tree.Block, bind: tree.Bind) -> Edit:
    """Remove a key: its whole line if it is alone on it (a comment behind it stays), else up to its neighbour."""
    source = bind.span.source
    if not _shares_its_line(block, bind):
        first, last = _position(bind.span)[0], source.position(bind.span.end)[0]
        start = source.line_starts[first - 1]
        end = source.line_starts[last] if last < len(source.line_starts) else len(source.text)
        behind = source.line(last)[source.position(bind.span.end)[1] - 1 :].strip().lstrip(",").strip()
        indent = source.text[start : bind.span.start]
        return Edit(Span(source, start, end), f"{indent}{behind}\n" if behind.startswith("#") else "")
    index = block.body.index(bind)
    if index + 1 < len(block.body):
        return Edit(Span(source, bind.span.start, block.body[index + 1].span.start), "")
    start = block.body[index - 1].span.end if index else bind.span.start
    return Edit(Span(source, start, bind.span.end), "")
