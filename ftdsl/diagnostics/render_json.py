"""Diagnostics as JSON: the view, and counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import count, view

SCHEMA = 1


def render(diagnostics: Iterable[Diagnostic], versions: Mapping[str, Any] | None = None) -> str:
    """One JSON document. Members may be added without a new `schema`, but never removed or changed.

    versions: file -> package -> the version that it was checked against, and why.
    """
    views = view(diagnostics)
    counts = count(views)
    document = {
        "schema": SCHEMA,
        "errors": counts["error"],
        "warnings": counts["warning"],
        "infos": counts["info"],
        "diagnostics": views,
        "versions": dict(versions or {}),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
