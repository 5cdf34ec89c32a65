"""The reader's state: levels of quoting and nesting, and the names to replace."""

from __future__ import annotations

from dataclasses import field

from ftdsl.engines.shell.commands import Refusal
from ftdsl.record import frozen, mutable


class RefusedError(Exception):
    """A name whose value cannot be used where it is; the message gives the reason. hole: index of the name."""

    def __init__(self, hole: int, refusal: Refusal) -> None:
        super().__init__(refusal.why)
        self.hole, self.help = hole, refusal.help


@frozen
class Hole:
    """A name in the code: the variable that holds its value, and whether the value is a whole number."""

    variable: str
    number: bool = False


@mutable
class Frame:
    """One level of quoting or nesting. `kind`: code, single, double, ansi, braces, arithmetic, comment, document.

    closer: what ends it.
    Of code: word, the word being read (`raw` with its quotes); commands of the pipeline (the last is being read); used, the
    names in the pipeline, and ever, in the whole frame; cases, the part of each open `case`; redirects, the redirection whose
    target comes next; test, the names within `[[ ]]` (None outside).
    Of braces: in_double, operator. Of a document: quoted, strip, readers (the pipeline that reads it). Of arithmetic: depth.
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
        """The words of the command being read."""
        return self.commands[-1]
