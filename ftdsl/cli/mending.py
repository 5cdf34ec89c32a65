"""Applies fixes to a text in a few rounds; none that would make it unreadable or add an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ftdsl.diagnostics import Diagnostic, Fix, Severity
from ftdsl.diagnostics.fixes import apply
from ftdsl.record import frozen
from ftdsl.source import Source

ROUNDS = 10
"""Maximum rounds: a fix may reveal the next one."""

SYNTAX = ("FT03", "FT050", "FT051")
"""Prefix of the codes of syntax errors."""

Examine = Callable[[Path, str], list[Diagnostic]]


@frozen
class Mended:
    """text: with `count` fixes applied; refused: (location, title) of the others."""

    text: str
    count: int
    refused: tuple[tuple[str, str], ...]


def mended(path: Path, text: str, examine: Examine, *, unsafe: bool) -> Mended:
    """The text with all fixes that improve it. examine: returns the diagnostics of a file with a given text."""
    count = 0
    refused: dict[tuple[str, str], None] = {}
    diagnostics = examine(path, text)
    for _ in range(ROUNDS):
        left = [diagnostic for diagnostic in diagnostics if diagnostic.fix and _named(diagnostic) not in refused]
        source = Source(path.as_posix(), text)
        after, taken = apply(source, left, unsafe=unsafe)
        if not taken:
            break
        then = examine(path, after)
        if not _no_worse(diagnostics, then):
            taken, bad = _one_by_one(path, source, left, diagnostics, taken, examine)
            refused |= dict.fromkeys(map(_named, bad))
            after, taken = apply(source, [diagnostic for diagnostic in left if diagnostic.fix in taken], unsafe=True)
            then = examine(path, after)
        text, diagnostics, count = after, then, count + len(taken)
    return Mended(text, count, tuple(refused))


def _named(diagnostic: Diagnostic) -> tuple[str, str]:
    """(location, title) of a fix."""
    return (diagnostic.span.location if diagnostic.span else "", diagnostic.fix.title if diagnostic.fix else "")


def _no_worse(before: Sequence[Diagnostic], after: Sequence[Diagnostic]) -> bool:
    """Whether a text has no more syntax errors than before, and no error if it had none.

    If there were errors before, fixing them may reveal others.
    """
    unreadable = [
        sum(diagnostic.code.startswith(SYNTAX) for diagnostic in diagnostics) for diagnostics in (before, after)
    ]
    errors = [
        any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics) for diagnostics in (before, after)
    ]
    return unreadable[1] <= unreadable[0] and (errors[0] or not errors[1])


def _one_by_one(
    path: Path,
    source: Source,
    left: Sequence[Diagnostic],
    before: Sequence[Diagnostic],
    taken: Sequence[Fix],
    examine: Examine,
) -> tuple[list[Fix], list[Diagnostic]]:
    """(fixes that do no harm one after the other, diagnostics of the others), of fixes that do harm together."""
    good: list[Fix] = []
    bad: list[Diagnostic] = []
    for diagnostic in left:
        if diagnostic.fix is None or diagnostic.fix not in taken or diagnostic.fix in good:
            continue
        text, _ = apply(source, [other for other in left if other.fix in (*good, diagnostic.fix)], unsafe=True)
        if _no_worse(before, examine(path, text)):
            good.append(diagnostic.fix)
        else:
            bad.append(diagnostic)
    return good, bad
