"""Diagnostics as JSON: the view, and how many there are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import count, view

SCHEMA = 1


def render(diagnostics: Iterable[Diagnostic], versions: Mapping[str, Any] | None = None) -> str:
    """One JSON document; a member is added to it without a new `schema`, never taken away or changed.

    versions: file -> package -> the version that it was held to, and why that one.
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
