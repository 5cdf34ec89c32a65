"""Diagnostics as workflow commands: GitHub shows them at the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import DiagnosticView, view
from ftdsl.printable import printable

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """One command a line."""
    return "".join(_command(found) + "\n" for found in view(diagnostics))


def _command(found: DiagnosticView) -> str:
    place = {"file": found["file"], "line": found["line"], "col": found["column"], "endLine": found["end_line"]}
    given = [f"{name}={_escaped(str(value), ',:')}" for name, value in place.items() if value is not None]
    given.append(f"title={_escaped(found['code'] + ' ' + found['name'], ',:')}")
    said = "\n".join(
        text
        for text in (found["message"], found["label"], *found["notes"], found["help"] and f"help: {found['help']}")
        if text
    )
    return f"::{_LEVELS[found['severity']]} {','.join(given)}::{_escaped(said)}"


def _escaped(text: str, more: str = "") -> str:
    """As the runner decodes it (actions/toolkit, command.ts)."""
    text = printable(text)
    for char in ("%", "\r", "\n", *more):
        text = text.replace(char, f"%{ord(char):02X}")
    return text
