"""Fixes applied to a text: those that do not touch each other, from the end to the start."""

from __future__ import annotations

from collections.abc import Iterable

from ftdsl.diagnostics.model import Diagnostic, Edit, Fix
from ftdsl.source import Source


def apply(source: Source, diagnostics: Iterable[Diagnostic], *, unsafe: bool) -> tuple[str, list[Fix]]:
    """The text with the fixes in it, and the fixes that were taken; `unsafe` ones only when asked for."""
    taken: list[Fix] = []
    edits: list[Edit] = []
    for diagnostic in diagnostics:
        fix = diagnostic.fix
        if (
            fix is None
            or (not fix.safe and not unsafe)
            or any(edit.span.source.text != source.text for edit in fix.edits)
        ):
            continue
        if any(_touch(edit, other) for edit in fix.edits for other in edits):
            continue
        taken.append(fix)
        edits += fix.edits
    text = source.text
    for edit in sorted(edits, key=lambda edit: edit.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text, taken


def _touch(left: Edit, right: Edit) -> bool:
    """Whether they change the same text, or put something in at one place."""
    first, second = left.span, right.span
    return first.start == second.start or (first.start < second.end and second.start < first.end)
