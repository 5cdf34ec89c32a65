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
    rules = {found["code"]: {"id": found["code"], "name": found["name"]} for found in views}
    driver = {"name": "ftc", "version": __version__, "rules": [rules[code] for code in sorted(rules)]}
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(found) for found in views]}],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _result(found: DiagnosticView) -> dict[str, Any]:
    text = "; ".join((found["message"], *found["notes"])) + (f" ({found['help']})" if found["help"] else "")
    result: dict[str, Any] = {"ruleId": found["code"], "level": _LEVELS[found["severity"]], "message": {"text": text}}
    if found["file"] is not None:
        region = {
            "startLine": found["line"],
            "startColumn": found["column"],
            "endLine": found["end_line"],
            "endColumn": found["end_column"],
        }
        place = {"artifactLocation": {"uri": found["file"]}, "region": region}
        result["locations"] = [{"physicalLocation": place}]
    return result
