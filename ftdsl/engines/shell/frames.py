"""What is known of the place that has been read up to: levels of quoting and nesting, and the names to be put in."""

from __future__ import annotations

from dataclasses import field

from ftdsl.engines.shell.commands import Refusal
from ftdsl.record import frozen, mutable


class RefusedError(Exception):
    """A name where its value cannot be put in: the message says why, `hole` which name it is (from 0)."""

    def __init__(self, hole: int, refusal: Refusal) -> None:
        super().__init__(refusal.why)
        self.hole, self.help = hole, refusal.help


@frozen
class Hole:
    """A name in the code: the variable that holds its value, and whether that is a whole number."""

    variable: str
    number: bool = False


@mutable
class Frame:
    """One level of quoting or nesting. `kind`: code, single, double, ansi, braces, arithmetic, comment, document.

    closer: what ends it. Of code: the word that is being read (`raw` with its quotes), the commands of the pipeline (the last is
    being read), the names used in it, how far each open `case` has come, the redirection whose target comes next, and the names
    within `[[ ]]` (None outside).
    in_double, operator: of braces; quoted, strip, readers: of a document, and the pipeline that reads it; depth: of arithmetic.
    """

    kind: str
    closer: str = ""
    word: str = ""
    raw: str = ""
    commands: list[list[str]] = field(default_factory=lambda: [[]])
    used: list[int] = field(default_factory=list)
    ever: list[int] = field(default_factory=list)
    subshell: bool = False
    cases: list[str] = field(default_factory=list)
    begins: bool = True
    redirects: str = ""
    test: list[int] | None = None
    computing: bool = False
    in_double: bool = False
    operator: str = ""
    quoted: bool = False
    strip: bool = False
    readers: list[list[str]] = field(default_factory=list)
    depth: int = 0

    @property
    def words(self) -> list[str]:
        """Those of the command that is being read."""
        return self.commands[-1]
