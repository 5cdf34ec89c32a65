"""Diagnostics.

Given: code, message, span, help and fix. Gives: a sink that collects them, one structured view, and renderers over it (text,
JSON, GitHub, SARIF). Knows: spans and codes; nothing of recipes.
"""

from ftdsl.diagnostics.model import Diagnostic, Edit, Fix, Label, Severity, guessed
from ftdsl.diagnostics.sink import Sink

__all__ = ["Diagnostic", "Edit", "Fix", "Label", "Severity", "Sink", "guessed"]
