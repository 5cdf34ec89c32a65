"""The syntax tree: what was written, with spans; no meaning yet.

A tree is complete even when the text was wrong: what could not be read is a `Bad` item, and a missing value is a
`Missing` expression. Nodes compare by identity; use `text` of their spans to compare what was written.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from ftdsl.record import record
from ftdsl.source import Source, Span


class Binder(StrEnum):
    FIXED = "="
    SWEPT = "in"
    SAMPLED = "~"


@record
class Word:
    """A name where it was written."""

    text: str
    span: Span


# --- expressions


@record
class Quantity:
    """A number with the letters (or %) that follow it: `16k`, `3 epochs`, `5%`; `unit` is "" without any."""

    number: str
    unit: str
    span: Span
    unit_span: Span


@record
class Hole:
    """`{path.to.name}` inside a string."""

    path: tuple[Word, ...]
    span: Span


@record
class Text:
    """A string: its pieces in order, escapes already resolved; a raw string has no holes."""

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


@record
class Constant:
    """`true`, `false` or `null` (None)."""

    value: bool | None
    span: Span


@record
class Ref:
    """A dotted name."""

    path: tuple[Word, ...]
    span: Span


@record
class Argument:
    name: Word | None
    value: Expression
    span: Span


@record
class Call:
    path: tuple[Word, ...]
    arguments: tuple[Argument, ...]
    span: Span


@record
class ListOf:
    items: tuple[Expression, ...]
    span: Span


@record
class Binary:
    """`left op right`; op is one of `+ - * / ..`."""

    op: str
    left: Expression
    right: Expression
    span: Span


@record
class Negative:
    value: Expression
    span: Span


@record
class Missing:
    """A value that is not there; already reported."""

    span: Span


Expression: TypeAlias = Quantity | Text | Constant | Ref | Call | ListOf | Binary | Negative | Missing


# --- items


@record
class Include:
    path: Text
    alias: Word | None
    span: Span


@record
class Let:
    name: Word
    binder: Binder
    value: Expression
    span: Span
    doc: str = ""


@record
class TypeName:
    """A type as written after `:`; `list[int]` has one argument; `?` sets `optional`."""

    name: Word
    arguments: tuple[TypeName, ...]
    optional: bool
    span: Span


@record
class Param:
    name: Word
    type: TypeName | None
    default: Expression | None
    span: Span
    doc: str = ""


@record
class Bind:
    """`key = value`; the key is a path of one or more words (a quoted key is one word)."""

    key: tuple[Word, ...]
    binder: Binder
    value: Expression
    span: Span
    doc: str = ""


@record
class Block:
    """`kind label from parent, … { body }`. `header` spans from the kind to before the brace."""

    kind: Word
    label: Word | None
    parents: tuple[Ref, ...]
    body: tuple[Item, ...]
    header: Span
    span: Span
    doc: str = ""


@record
class Bad:
    """Text that could not be read; already reported."""

    span: Span


Item: TypeAlias = Include | Let | Param | Bind | Block | Bad


def has_bad(items: tuple[Item, ...]) -> bool:
    """Whether something there could not be read; stages have their own answer, so only shared blocks are looked into."""
    return any(
        isinstance(item, Bad)
        or (isinstance(item, Block) and not item.label and not item.parents and has_bad(item.body))
        for item in items
    )


@record
class Comment:
    text: str
    span: Span


@record
class File:
    source: Source
    items: tuple[Item, ...]
    comments: tuple[Comment, ...]
    doc: str = ""
