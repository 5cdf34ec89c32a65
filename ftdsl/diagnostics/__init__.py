"""Diagnostics.

Input: code, message, span, help and fix. Output: a sink that collects them, one structured view, and renderers for it (text,
JSON, GitHub, SARIF). Contains the codes; depends on spans only, not on recipes.
"""

from ftdsl.diagnostics.model import Diagnostic, Edit, Fix, Label, Severity, guessed
from ftdsl.diagnostics.sink import Sink

__all__ = ["Diagnostic", "Edit", "Fix", "Label", "Severity", "Sink", "guessed"]
