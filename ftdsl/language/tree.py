"""The syntax tree, with spans and without meaning.

A tree is complete even if the text has errors: unparsable text is a `Bad` item, and a missing value is a `Missing` expression.
Nodes compare by identity; compare `span.text` to compare source text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from ftdsl.record import frozen
from ftdsl.source import Source, Span


class Binder(StrEnum):
    FIXED = "="
    SWEPT = "in"
    SAMPLED = "~"


@frozen
class Word:
    """A name with its span."""

    text: str
    span: Span


# --- expressions


@frozen
class Quantity:
    """A number with the letters (or %) that follow it: `16k`, `3 epochs`, `5%`; `unit` is "" without any."""

    number: str
    unit: str
    span: Span
    unit_span: Span


@frozen
class Hole:
    """`{path.to.name}` inside a string."""

    path: tuple[Word, ...]
    span: Span


@frozen
class Text:
    """A string: its parts in order, escapes resolved; a raw string has no holes."""

    parts: tuple[str | Hole, ...]
    span: Span

    @property
    def plain(self) -> str | None:
        """The text, if it has no holes."""
        return (
            "".join(p for p in self.parts if isinstance(p, str))
            if not any(isinstance(p, Hole) for p in self.parts)
            else None
        )


@frozen
class Constant:
    """`true`, `false` or `null` (None)."""

    value: bool | None
    span: Span


@frozen
class Ref:
    """A dotted name."""

    path: tuple[Word, ...]
    span: Span


@frozen
class Argument:
    name: Word | None
    value: Expression
    span: Span


@frozen
class Call:
    path: tuple[Word, ...]
    arguments: tuple[Argument, ...]
    span: Span


@frozen
class ListOf:
    items: tuple[Expression, ...]
    span: Span


@frozen
class Binary:
    """`left op right`; op is one of `+ - * / ..`."""

    op: str
    left: Expression
    right: Expression
    span: Span


@frozen
class Negative:
    value: Expression
    span: Span


@frozen
class Missing:
    """A missing value; already reported."""

    span: Span


Expression: TypeAlias = Quantity | Text | Constant | Ref | Call | ListOf | Binary | Negative | Missing


# --- items


@frozen
class Include:
    path: Text
    alias: Word | None
    span: Span


@frozen
class Let:
    name: Word
    binder: Binder
    value: Expression
    span: Span
    doc: str = ""


@frozen
class TypeName:
    """A type as written after `:`; `list[int]` has one argument; `?` sets `optional`."""

    name: Word
    arguments: tuple[TypeName, ...]
    optional: bool
    span: Span


@frozen
class Param:
    name: Word
    type: TypeName | None
    default: Expression | None
    span: Span
    doc: str = ""


@frozen
class Bind:
    """`key = value`; the key is a path of one or more words (a quoted key is one word)."""

    key: tuple[Word, ...]
    binder: Binder
    value: Expression
    span: Span
    doc: str = ""


@frozen
class Block:
    """`kind label from parent, … { body }`. `header` spans from the kind to before the brace."""

    kind: Word
    label: Word | None
    parents: tuple[Ref, ...]
    body: tuple[Item, ...]
    header: Span
    span: Span
    doc: str = ""


@frozen
class Bad:
    """Text that could not be parsed; already reported."""

    span: Span


Item: TypeAlias = Include | Let | Param | Bind | Block | Bad


def has_bad(items: tuple[Item, ...]) -> bool:
    """Whether an item could not be parsed. Of blocks only shared ones are searched; stages are checked separately."""
    return any(
        isinstance(item, Bad)
        or (isinstance(item, Block) and not item.label and not item.parents and has_bad(item.body))
        for item in items
    )


@frozen
class Comment:
    text: str
    span: Span


@frozen
class File:
    source: Source
    items: tuple[Item, ...]
    comments: tuple[Comment, ...]
    doc: str = ""
