"""Diagnostics as GitHub workflow commands, which are shown at the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import DiagnosticView, view
from ftdsl.printable import printable

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """One command per line."""
    return "".join(_command(diagnostic) + "\n" for diagnostic in view(diagnostics))


def _command(diagnostic: DiagnosticView) -> str:
    position = {
        "file": diagnostic["file"],
        "line": diagnostic["line"],
        "col": diagnostic["column"],
        "endLine": diagnostic["end_line"],
    }
    properties = [f"{name}={_escaped(str(value), ',:')}" for name, value in position.items() if value is not None]
    properties.append(f"title={_escaped(diagnostic['code'] + ' ' + diagnostic['name'], ',:')}")
    help = f"help: {diagnostic['help']}" if diagnostic["help"] else ""
    lines = (diagnostic["message"], diagnostic["label"], *diagnostic["notes"], help)
    text = "\n".join(line for line in lines if line)
    return f"::{_LEVELS[diagnostic['severity']]} {','.join(properties)}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Escape as the runner decodes it (actions/toolkit, command.ts)."""
    text = printable(text)
    for char in ("%", "\r", "\n", *more):
        text = text.replace(char, f"%{ord(char):02X}")
    return text
