"""Fixes put into a text, a few rounds; none that would make it unreadable, or an error of what was none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ftdsl.diagnostics import Diagnostic, Fix, Severity
from ftdsl.diagnostics.fixes import apply
from ftdsl.record import frozen
from ftdsl.source import Source

ROUNDS = 10
"""A fix may bring the next one to light; they end soon, or this ends them."""

SYNTAX = ("FT03", "FT050", "FT051")
"""Codes of a text that cannot be read."""

Examine = Callable[[Path, str], list[Diagnostic]]


@frozen
class Mended:
    """`count` fixes are in the text; `refused`: where others are, and what they would do."""

    text: str
    count: int
    refused: tuple[tuple[str, str], ...]


def mended(path: Path, text: str, examine: Examine, *, unsafe: bool) -> Mended:
    """The text with all fixes that do it good. `examine`: what is found in a file with a text."""
    count = 0
    refused: dict[tuple[str, str], None] = {}
    found = examine(path, text)
    for _ in range(ROUNDS):
        left = [one for one in found if one.fix and _named(one) not in refused]
        source = Source(path.as_posix(), text)
        after, taken = apply(source, left, unsafe=unsafe)
        if not taken:
            break
        then = examine(path, after)
        if not _no_worse(found, then):
            taken, bad = _one_by_one(path, source, left, found, taken, examine)
            refused |= dict.fromkeys(map(_named, bad))
            after, taken = apply(source, [one for one in left if one.fix in taken], unsafe=True)
            then = examine(path, after)
        text, found, count = after, then, count + len(taken)
    return Mended(text, count, tuple(refused))


def _named(one: Diagnostic) -> tuple[str, str]:
    """Where a fix is, and what it does."""
    return (one.span.location if one.span else "", one.fix.title if one.fix else "")


def _no_worse(before: Sequence[Diagnostic], after: Sequence[Diagnostic]) -> bool:
    """Whether a text can be read as well as before, and has no error where it had none.

    Where there were errors, others may come to light once the text can be read.
    """
    unreadable = [sum(one.code.startswith(SYNTAX) for one in found) for found in (before, after)]
    errors = [any(one.severity is Severity.ERROR for one in found) for found in (before, after)]
    return unreadable[1] <= unreadable[0] and (errors[0] or not errors[1])


def _one_by_one(
    path: Path,
    source: Source,
    left: Sequence[Diagnostic],
    before: Sequence[Diagnostic],
    taken: Sequence[Fix],
    examine: Examine,
) -> tuple[list[Fix], list[Diagnostic]]:
    """Of fixes that do harm together: those that go on top of each other without any, and the others."""
    good: list[Fix] = []
    bad: list[Diagnostic] = []
    for one in left:
        if one.fix is None or one.fix not in taken or one.fix in good:
            continue
        text, _ = apply(source, [other for other in left if other.fix in (*good, one.fix)], unsafe=True)
        if _no_worse(before, examine(path, text)):
            good.append(one.fix)
        else:
            bad.append(one)
    return good, bad
