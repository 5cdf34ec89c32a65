"""Diagnostics and fixes as the protocol has them; texts come from the one view that all renderers read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lsprotocol import types as lsp

from ftdsl.diagnostics import Diagnostic, Fix
from ftdsl.diagnostics.view import view
from ftdsl.lsp.document import SEVERITY, Document, Result
from ftdsl.lsp.positions import Lines
from ftdsl.source import Source, Span


def range_of(span: Span, document: Document, cache: dict[str, Lines]) -> lsp.Range:
    """The range of a span in this document or in another file."""
    source = span.source
    if source.name == document.path.as_posix() and source.text == document.text:
        return document.lines.range(span.start, span.end)
    lines = cache.setdefault(source.name, Lines(source.text, document.encoding))
    return lines.range(span.start, span.end)


def quick(document: Document) -> list[lsp.Diagnostic]:
    """What can be said of a text at once."""
    messages = document.result.messages if document.result else {}
    return [
        _diagnostic(diagnostic, document.lines.range(start, end), [], messages)
        for start, end, diagnostic in document.quick()
    ]


def full(document: Document, result: Result) -> dict[str, list[lsp.Diagnostic]]:
    """Diagnostics by the URI of their file; those without a place are shown at the start of the document."""
    cache: dict[str, Lines] = {}
    own = document.path.as_posix()
    by_uri: dict[str, list[lsp.Diagnostic]] = {document.uri: []}
    for diagnostic in result.diagnostics:
        span = diagnostic.span or Span(Source(own, document.text), 0, 0)
        related = [
            lsp.DiagnosticRelatedInformation(
                lsp.Location(_uri(label.span, document), range_of(label.span, document, cache)), label.text
            )
            for label in diagnostic.labels
        ]
        span_range = range_of(span, document, cache)
        by_uri.setdefault(_uri(span, document), []).append(
            _diagnostic(diagnostic, span_range, related, result.messages)
        )
    return by_uri


def _uri(span: Span, document: Document) -> str:
    name = span.source.name
    return document.uri_of(name) if Path(name).suffix else document.uri  # `--set` is no file


def _diagnostic(
    diagnostic: Diagnostic,
    span_range: lsp.Range,
    related: list[lsp.DiagnosticRelatedInformation],
    messages: dict[int, str],
) -> lsp.Diagnostic:
    text = messages.get(id(diagnostic)) or messages.setdefault(id(diagnostic), _text(diagnostic))
    return lsp.Diagnostic(
        span_range,
        text,
        severity=lsp.DiagnosticSeverity(SEVERITY[diagnostic.severity]),
        code=diagnostic.code,
        source="ftc",
        related_information=related or None,
        data={"name": diagnostic.name},
    )


def _text(diagnostic: Diagnostic) -> str:
    (shown,) = view([diagnostic])
    lines = [shown["message"], shown["label"], *shown["notes"], f"help: {shown['help']}" if shown["help"] else ""]
    return "\n".join(filter(None, lines))


def actions(document: Document, wanted: lsp.Range, only: Iterable[str] | None) -> list[lsp.CodeAction]:
    """Fixes of the diagnostics in a range, safe ones first and preferred; and all safe fixes of the file as one action."""
    result = document.current
    if result is None:
        return []
    start, end = document.lines.offset(wanted.start), document.lines.offset(wanted.end)
    kinds = list(only or ())
    code_actions: list[lsp.CodeAction] = []
    own = document.path.as_posix()
    for diagnostic in result.diagnostics:
        span, fix = diagnostic.span, diagnostic.fix
        if fix is None or span is None or span.source.name != own or span.end < start or span.start > end:
            continue
        if kinds and not any(lsp.CodeActionKind.QuickFix.startswith(kind) for kind in kinds):
            continue
        edit = edit_of(fix, document)
        cache: dict[str, Lines] = {}
        shown = _diagnostic(diagnostic, range_of(span, document, cache), [], result.messages)
        code_actions.append(
            lsp.CodeAction(
                fix.title, lsp.CodeActionKind.QuickFix, diagnostics=[shown], is_preferred=fix.safe or None, edit=edit
            )
        )
    code_actions.sort(key=lambda action: not action.is_preferred)
    if kinds and any("source.fixAll".startswith(kind) or kind.startswith("source.fixAll") for kind in kinds):
        code_actions += _all_safe(document, result.diagnostics)
    return code_actions


def _all_safe(document: Document, diagnostics: Iterable[Diagnostic]) -> list[lsp.CodeAction]:
    from ftdsl.diagnostics.fixes import apply

    own = document.path.as_posix()
    here = [diagnostic for diagnostic in diagnostics if diagnostic.span and diagnostic.span.source.name == own]
    text, taken = apply(Source(own, document.text), here, unsafe=False)
    if not taken:
        return []
    edit = lsp.WorkspaceEdit(changes={document.uri: whole(document, text)})
    return [lsp.CodeAction("apply all safe fixes", "source.fixAll.ftc", edit=edit)]


def edit_of(fix: Fix, document: Document) -> lsp.WorkspaceEdit:
    cache: dict[str, Lines] = {}
    changes: dict[str, list[lsp.TextEdit]] = {}
    for edit in fix.edits:
        span_range = range_of(edit.span, document, cache)
        changes.setdefault(_uri(edit.span, document), []).append(lsp.TextEdit(span_range, edit.text))
    return lsp.WorkspaceEdit(changes=changes)


def whole(document: Document, text: str) -> list[lsp.TextEdit]:
    """Edits of the lines that differ, so that an editor keeps its cursor and marks."""
    import difflib

    before, after = document.text.splitlines(keepends=True), text.splitlines(keepends=True)
    if len(before) > MANY_LINES:
        return [lsp.TextEdit(document.lines.range(0, len(document.text)), text)]
    starts = [0]
    for line in before:
        starts.append(starts[-1] + len(line))
    return [
        lsp.TextEdit(document.lines.range(starts[first], starts[last]), "".join(after[low:high]))
        for tag, first, last, low, high in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        if tag != "equal"
    ]


MANY_LINES = 2_000
"""Lines from which a text is replaced as a whole: comparing lines takes quadratic time."""
