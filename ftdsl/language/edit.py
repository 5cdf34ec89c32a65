"""Text edits that set a key of a block: they replace its value, or insert a line. The rest of the text is unchanged."""

from __future__ import annotations

from collections.abc import Sequence

from ftdsl.diagnostics import Edit
from ftdsl.language import tree
from ftdsl.source import Span


def setting(block: tree.Block, key: Sequence[str], text: str) -> list[Edit]:
    """Edits that set `key` (such as `["optim", "lr"]`) of the block to `text`. The text "" adds an empty block of that name;
    the text `null` for a block removes it.
    """
    name, inner_key = key[0], key[1:]
    for item in block.body:
        if isinstance(item, tree.Bind) and [word.text for word in item.key] == list(key):
            return [Edit(item.value.span, text)] if text else []
        if isinstance(item, tree.Block) and item.kind.text == name:
            if inner_key:
                return setting(item, inner_key, text)
            return [_removed(item)] if text == "null" else []
    written = f"{'.'.join(key)} = {text}" if text else f"{name} {{ }}"
    return [_inserted(block, written)]


def _inserted(block: tree.Block, written: str) -> Edit:
    """Insert after the opening brace: a separate line if the block has several lines, else before its first item."""
    source = block.span.source
    at = source.text.index("{", block.header.end) + 1
    inside = source.text[at : block.span.end - 1]
    if "\n" not in inside:
        return Edit(Span(source, at, at), f" {written}{',' if inside.strip() else ''}")
    first = block.body[0].span.start if block.body else at
    column = source.position(first)[1] - 1 if block.body else 2
    return Edit(Span(source, at, at), f"\n{' ' * column}{written}")


def _removed(item: tree.Block) -> Edit:
    """Remove the block, and its lines if they contain nothing else."""
    source, start, end = item.span.source, item.span.start, item.span.end
    text = source.text
    line = text.rfind("\n", 0, start) + 1
    after = text.find("\n", end)
    after = len(text) if after < 0 else after + 1
    alone = not text[line:start].strip() and not text[end:after].strip()
    return Edit(Span(source, line, after), "") if alone else Edit(item.span, "")
