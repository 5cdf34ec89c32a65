"""A rule is a function from a `Config` to its findings, registered under a code, with a docstring of fixed headings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ftdsl.catalog.foreign import ENGINE
from ftdsl.diagnostics import Fix, Label, Severity
from ftdsl.lint.config import Config, Setting
from ftdsl.record import frozen


@frozen
class Finding:
    """A problem at a setting; the code is that of the rule."""

    at: Setting
    message: str
    severity: Severity
    label: str = ""
    labels: tuple[Label, ...] = ()
    help: str = ""
    fix: Fix | None = None


Findings: TypeAlias = Iterator[Finding]
Check: TypeAlias = Callable[[Config], Findings]

RULES: dict[str, Check] = {}
"""Rules of the imported families by code (`ftdsl.lint.check.load` imports all)."""

EVERY = "*"
ENGINES: dict[str, tuple[str, ...]] = {}
"""Code -> the engines whose parameters it is about; those that are not here are about the default engine's."""


def rule(code: str, *engines: str) -> Callable[[Check], Check]:
    """Registers a function under a code. Its name, with `-` for `_`, is the name of the code.

    engines: whose parameters it is about (EVERY: transformers', DeepSpeed's, accelerate's); by default the default engine's.
    """

    def put(check: Check) -> Check:
        RULES[code] = check
        if engines:
            ENGINES[code] = engines
        return check

    return put


def is_about(code: str, engine: str) -> bool:
    """Whether a rule is about an engine's parameters."""
    return bool({EVERY, engine} & set(ENGINES.get(code, (ENGINE,))))


def error(
    at: Setting,
    message: str,
    *,
    label: str = "",
    also: tuple[tuple[Setting, str], ...] = (),
    help: str = "",
    fix: Fix | None = None,
) -> Finding:
    """The engine stops, or does something else than requested. `also`: related settings with their labels; those that nobody has
    written have no place to be shown at.
    """
    written = [(other.key or other.span, text) for other, text in also if other.is_explicit]
    labels = tuple(Label(span, text) for span, text in written if span)
    return Finding(at, message, Severity.ERROR, label, labels, help, fix)


def warning(at: Setting, message: str, *, label: str = "", help: str = "", fix: Fix | None = None) -> Finding:
    """The engine does what was requested, which is probably not what was meant."""
    return Finding(at, message, Severity.WARNING, label, (), help, fix)


def info(at: Setting, message: str, *, help: str = "", fix: Fix | None = None) -> Finding:
    """A note."""
    return Finding(at, message, Severity.INFO, "", (), help, fix)
