"""Runs every rule on a configuration."""

from __future__ import annotations

from importlib import import_module

from ftdsl.diagnostics import Diagnostic, Sink
from ftdsl.lint.config import Config, UnknownError
from ftdsl.lint.rule import RULES, Check, Finding, is_about
from ftdsl.record import replace
from ftdsl.source import Span

FAMILIES = (
    "values",
    "keys",
    "schedule",
    "evaluation",
    "saving",
    "data",
    "rows",
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
    "trl_groups",
    "trl_trainers",
    "environment",
)
"""Modules of ftdsl.lint.families in their order; the other families skip parameters that `values` rejects."""

REFUSING = ("FT060", "FT002", "FT003")


def load() -> dict[str, Check]:
    """All rules by code. Imported here only, so that a recipe with errors of the language does not pay for it."""
    for family in FAMILIES:
        import_module(f"ftdsl.lint.families.{family}")
    return RULES


CERTAIN = ("FT001", "FT002", "FT003", "FT005", "FT011", "FT060", "FT401", "FT501", "FT502")
"""Rules whose errors are certain, not predictions."""


def overridable() -> frozenset[str]:
    """Rules whose errors an author may allow, with a reason (`# ftc: allow`)."""
    return frozenset(load()) - frozenset(CERTAIN)


def check(config: Config, sink: Sink) -> None:
    """Add the findings of all rules. Rules skip values that an earlier rule rejected: one cause, one message."""
    for code, rule in load().items():
        if not is_about(code, config.engine):
            continue
        try:
            findings = list(rule(config))
        except UnknownError:
            continue
        for finding in findings:
            sink.add(_diagnostic(code, finding, config.span))
        if code in REFUSING and findings:
            config = replace(config, unknown=config.unknown | {finding.at.name for finding in findings})


def _diagnostic(code: str, finding: Finding, whole: Span | None) -> Diagnostic:
    span = finding.at.span or finding.at.key or whole
    return Diagnostic(
        code, finding.message, span, finding.severity, finding.label, finding.labels, finding.help, finding.fix
    )
