"""Applies fixes to a text. Overlapping fixes are skipped; edits are applied from the end to the start."""

from __future__ import annotations

from collections.abc import Iterable

from ftdsl.diagnostics.model import Diagnostic, Edit, Fix
from ftdsl.source import Source


def apply(source: Source, diagnostics: Iterable[Diagnostic], *, unsafe: bool) -> tuple[str, list[Fix]]:
    """(text, applied fixes). `unsafe`: also apply fixes that are not safe."""
    applied: list[Fix] = []
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
        applied.append(fix)
        edits += fix.edits
    text = source.text
    for edit in sorted(edits, key=lambda edit: edit.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text, applied


def _touch(left: Edit, right: Edit) -> bool:
    """Whether two edits overlap, or insert at the same offset."""
    first, second = left.span, right.span
    return first.start == second.start or (first.start < second.end and second.start < first.end)
