"""Diagnostics: the model, the sink, one structured view, and renderers over that view."""

from ftdsl.diagnostics.model import Diagnostic, Edit, Fix, Label, Severity, guessed
from ftdsl.diagnostics.sink import Sink

__all__ = ["Diagnostic", "Edit", "Fix", "Label", "Severity", "Sink", "guessed"]
