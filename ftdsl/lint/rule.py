"""How a rule is written: a function from a `Config` to what it finds, under a code, with a docstring of fixed headings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ftdsl.diagnostics import Fix, Label, Severity
from ftdsl.lint.config import Config, Setting
from ftdsl.record import frozen


@frozen
class Finding:
    """What a rule found: at a setting, in the author's words. The code is the rule's."""

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
"""The rules of every family that was imported, by code (`ftdsl.lint.check.load` imports them all)."""


def rule(code: str) -> Callable[[Check], Check]:
    """Puts a function under a code. Its name, with `-` for `_`, is the name of the code."""

    def put(check: Check) -> Check:
        RULES[code] = check
        return check

    return put


def error(
    at: Setting,
    message: str,
    *,
    label: str = "",
    also: tuple[tuple[Setting, str], ...] = (),
    help: str = "",
    fix: Fix | None = None,
) -> Finding:
    """The engine stops on it, or does something else than what was asked. `also`: other settings that matter."""
    labels = tuple(Label(other.key or other.span, text) for other, text in also if (other.key or other.span))  # type: ignore[arg-type]
    return Finding(at, message, Severity.ERROR, label, labels, help, fix)


def warning(at: Setting, message: str, *, label: str = "", help: str = "", fix: Fix | None = None) -> Finding:
    """The engine does what was asked, and that is probably not what was meant."""
    return Finding(at, message, Severity.WARNING, label, (), help, fix)


def info(at: Setting, message: str, *, help: str = "", fix: Fix | None = None) -> Finding:
    """Good to know."""
    return Finding(at, message, Severity.INFO, "", (), help, fix)
