"""Diagnostics as JSON: the view, and how many there are."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import count, view

SCHEMA = 1


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """One JSON document; a member is added to it without a new `schema`, never taken away or changed."""
    views = view(diagnostics)
    counts = count(views)
    document = {
        "schema": SCHEMA,
        "errors": counts["error"],
        "warnings": counts["warning"],
        "infos": counts["info"],
        "diagnostics": views,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
