"""What keeps a study from being carried out."""

from __future__ import annotations

from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.source import Span


class StudyError(Exception):
    """A study cannot be opened or continued; `diagnostic` says why, at its line."""

    def __init__(self, code: str, message: str, span: Span | None, help: str = "") -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(code, message, span, Severity.ERROR, help=help)


class MissingPackageError(Exception):
    """A package that a search needs is not installed; the message is a sentence with what to type."""
