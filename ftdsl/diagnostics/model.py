"""What a diagnostic is: a fact about a place, with the help a person can act on."""

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
    """A second place that matters ("already set here")."""

    span: Span
    text: str


@frozen
class Edit:
    """Replace the text of `span` by `text`."""

    span: Span
    text: str


@frozen
class Fix:
    """Edits that mend the cause. `safe`: the meaning cannot change in a way the author did not want."""

    title: str
    edits: tuple[Edit, ...]
    safe: bool = True


def guessed(span: Span, word: str | None) -> Fix | None:
    """Put the word that was probably meant: not safe, since it is a guess."""
    return Fix(f"write `{word}`", (Edit(span, word),), safe=False) if word else None


@frozen
class Diagnostic:
    """One cause, one message.

    `message` is a short fact in lower case; `label` stands under the span; `help` is a line a person can type; `notes` are
    the items of a fact that is a list.
    `span` is None only for what has no place in a file (a missing recipe, a flag).
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
        """What makes it another than one of the same code: its place, and all it says."""
        position = (self.span.source.name, self.span.start) if self.span else None
        return (self.code, position, self.message, self.notes)

    @property
    def name(self) -> str:
        """The kebab-case name of the code."""
        return CODES[self.code]
