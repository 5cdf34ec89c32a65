"""Diagnostics as SARIF 2.1.0 (OASIS), which code-scanning services read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ftdsl import __version__
from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import DiagnosticView, view

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """One document with one run."""
    views = view(diagnostics)
    rules = {diagnostic["code"]: {"id": diagnostic["code"], "name": diagnostic["name"]} for diagnostic in views}
    driver = {"name": "ftc", "version": __version__, "rules": [rules[code] for code in sorted(rules)]}
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(diagnostic) for diagnostic in views]}],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _result(diagnostic: DiagnosticView) -> dict[str, Any]:
    text = "; ".join((diagnostic["message"], *diagnostic["notes"])) + (
        f" ({diagnostic['help']})" if diagnostic["help"] else ""
    )
    result: dict[str, Any] = {
        "ruleId": diagnostic["code"],
        "level": _LEVELS[diagnostic["severity"]],
        "message": {"text": text},
    }
    if diagnostic["file"] is not None:
        region = {
            "startLine": diagnostic["line"],
            "startColumn": diagnostic["column"],
            "endLine": diagnostic["end_line"],
            "endColumn": diagnostic["end_column"],
        }
        location = {"artifactLocation": {"uri": diagnostic["file"]}, "region": region}
        result["locations"] = [{"physicalLocation": location}]
    return result
