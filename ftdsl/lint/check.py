"""Run every rule over one configuration."""

from __future__ import annotations

from importlib import import_module

from ftdsl.diagnostics import Diagnostic, Sink
from ftdsl.lint.config import Config, UnknownError
from ftdsl.lint.rule import RULES, Check, Finding
from ftdsl.record import replace
from ftdsl.source import Span

FAMILIES = (
    "values",
    "keys",
    "schedule",
    "evaluation",
    "saving",
    "data",
    "packing",
    "precision",
    "quantization",
    "adapters",
    "modules",
    "optimizers",
    "zero",
    "documents",
    "sharding",
    "launching",
    "templates",
    "targets",
    "losses",
    "hand_offs",
    "inference",
    "environment",
)
"""Modules of ftdsl.lint.families, in the order in which they look; what `values` refuses the others do not see."""

REFUSING = ("FT060", "FT002", "FT003")


def load() -> dict[str, Check]:
    """Every rule by code. Imported only here: a recipe that comes to nothing never pays for them."""
    for family in FAMILIES:
        import_module(f"ftdsl.lint.families.{family}")
    return RULES


FIRM = ("FT001", "FT002", "FT003", "FT005", "FT011", "FT060", "FT401", "FT501", "FT502")
"""Rules whose errors are no predictions: what is not there cannot be run, whatever anybody thinks of it."""


def judged() -> frozenset[str]:
    """Rules whose errors an author may overrule, with a reason (`# ftc: allow`)."""
    return frozenset(load()) - frozenset(FIRM)


def check(config: Config, sink: Sink) -> None:
    """Add what the rules find. A value that one rule refused is not shown to the next: one cause, one message."""
    for code, rule in load().items():
        try:
            found = list(rule(config))
        except UnknownError:
            continue
        for one in found:
            sink.add(_diagnostic(code, one, config.span))
        if code in REFUSING and found:
            config = replace(config, unknown=config.unknown | {one.at.name for one in found})


def _diagnostic(code: str, found: Finding, whole: Span | None) -> Diagnostic:
    span = found.at.span or found.at.key or whole
    return Diagnostic(code, found.message, span, found.severity, found.label, found.labels, found.help, found.fix)
