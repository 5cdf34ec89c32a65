"""A diagnostic: a fact about a span, with help to act on."""

from __future__ import annotations

from enum import StrEnum

from ftdsl.diagnostics.codes import CODES
from ftdsl.record import frozen
from ftdsl.source import Span


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@frozen
class Label:
    """A secondary span ("first set here")."""

    span: Span
    text: str


@frozen
class Edit:
    """Replace the text of `span` by `text`."""

    span: Span
    text: str


@frozen
class Fix:
    """Edits that fix the cause. `safe`: they cannot change the meaning against the author's intention."""

    title: str
    edits: tuple[Edit, ...]
    safe: bool = True


def guessed(span: Span, word: str | None) -> Fix | None:
    """A fix that inserts the suggested word; not safe, since it is a guess."""
    return Fix(f"write `{word}`", (Edit(span, word),), safe=False) if word else None


@frozen
class Diagnostic:
    """One cause, one message.

    message: a short fact in lower case; label: text at the span; help: what to do or write; notes: the items of a list;
    span: None only for problems without a source (a missing recipe, a flag).
    """

    code: str
    message: str
    span: Span | None
    severity: Severity = Severity.ERROR
    label: str = ""
    labels: tuple[Label, ...] = ()
    help: str = ""
    fix: Fix | None = None
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """The key that tells two diagnostics of a code apart: position and text."""
        position = (self.span.source.name, self.span.start) if self.span else None
        return (self.code, position, self.message, self.notes)

    @property
    def name(self) -> str:
        """The kebab-case name of the code."""
        return CODES[self.code]
