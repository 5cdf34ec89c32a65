"""The structured view of diagnostics. All renderers use only this, so that they agree.

Lines and columns start at 1, offsets at 0, all in characters; ends are exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from ftdsl.credentials import masked
from ftdsl.diagnostics.model import Diagnostic, Edit, Fix, Label
from ftdsl.source import Span


class RangeView(TypedDict):
    """A range of a file."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    offset: int
    end_offset: int


class ExcerptView(RangeView):
    """A range with the text of its first line, secrets masked, since it may be logged. For a long line, `excerpt` is the part
    around the range, which begins at `excerpt_column`."""

    excerpt: str
    excerpt_column: int


class LabelView(ExcerptView):
    text: str


class EditView(RangeView):
    """Replace the text from `offset` to `end_offset` by `text`."""

    text: str


class FixView(TypedDict):
    title: str
    safe: bool
    edits: list[EditView]


class DiagnosticView(TypedDict):
    """A diagnostic in JSON. The fields of the range are null for a diagnostic without a span."""

    code: str
    name: str
    severity: str
    message: str
    file: str | None
    line: int | None
    column: int | None
    end_line: int | None
    end_column: int | None
    offset: int | None
    end_offset: int | None
    excerpt: str | None
    excerpt_column: int | None
    label: str
    labels: list[LabelView]
    help: str
    notes: list[str]
    fix: FixView | None


def view(diagnostics: Iterable[Diagnostic]) -> list[DiagnosticView]:
    """The diagnostics in the order given."""
    return [_diagnostic(diagnostic) for diagnostic in diagnostics]


def count(views: Iterable[DiagnosticView]) -> dict[str, int]:
    """The number of diagnostics by severity, including 0."""
    counts = {"error": 0, "warning": 0, "info": 0}
    for diagnostic in views:
        counts[diagnostic["severity"]] += 1
    return counts


def _diagnostic(diagnostic: Diagnostic) -> DiagnosticView:
    excerpt = _excerpt(diagnostic.span) if diagnostic.span else None
    return {
        "code": diagnostic.code,
        "name": diagnostic.name,
        "severity": diagnostic.severity.value,
        "message": masked(diagnostic.message, names=False),
        "file": excerpt and excerpt["file"],
        "line": excerpt and excerpt["line"],
        "column": excerpt and excerpt["column"],
        "end_line": excerpt and excerpt["end_line"],
        "end_column": excerpt and excerpt["end_column"],
        "offset": excerpt and excerpt["offset"],
        "end_offset": excerpt and excerpt["end_offset"],
        "excerpt": excerpt and excerpt["excerpt"],
        "excerpt_column": excerpt and excerpt["excerpt_column"],
        "label": masked(diagnostic.label, names=False),
        "labels": [_label(label) for label in diagnostic.labels],
        "help": masked(diagnostic.help, names=False),
        "notes": [masked(note, names=False) for note in diagnostic.notes],
        "fix": _fix(diagnostic.fix) if diagnostic.fix else None,
    }


def _range(span: Span) -> RangeView:
    line, column = span.source.position(span.start)
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.name,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "offset": span.start,
        "end_offset": span.end,
    }


EXCERPT = 160
"""Maximum characters of an excerpt, since a file may have a single long line."""

BEFORE = 60
"""Characters before the range, in a longer line."""


def _excerpt(span: Span) -> ExcerptView:
    range_view = _range(span)
    source = span.source
    start, end = source.line_range(range_view["line"])
    if end - start <= EXCERPT:
        return {**range_view, "excerpt": masked(source.text[start:end]), "excerpt_column": 1}
    first = max(start, min(span.start - BEFORE, end - EXCERPT))
    before = max(start, first - BEFORE)  # so that a secret that begins before the excerpt is masked too
    text = masked(source.text[before : min(end, first + EXCERPT + BEFORE)])
    return {**range_view, "excerpt": text[first - before :][:EXCERPT], "excerpt_column": first - start + 1}


def _label(label: Label) -> LabelView:
    return {**_excerpt(label.span), "text": label.text}


def _fix(fix: Fix) -> FixView:
    return {"title": fix.title, "safe": fix.safe, "edits": [_edit(edit) for edit in fix.edits]}


def _edit(edit: Edit) -> EditView:
    return {**_range(edit.span), "text": edit.text}
