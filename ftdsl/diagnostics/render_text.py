"""Diagnostics for the terminal: the source line, the message under it, and the help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from unicodedata import east_asian_width

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import DiagnosticView, ExcerptView, count, view

_COLORS = {"error": "1;31", "warning": "1;33", "info": "1;36", "frame": "34", "second": "36", "bold": "1"}


WIDTH = 140
"""Columns of an excerpt where no terminal says how many there are."""

CUT = "..."
"""Where a line is cut: in ASCII, as marks below it are aligned in any encoding."""

NARROWEST = 30
"""Columns of source that are shown however narrow the terminal is."""


def render(diagnostics: Iterable[Diagnostic], *, color: bool = False, width: int = WIDTH) -> str:
    """All diagnostics, separated by blank lines; infos without the source line. width: columns, to which source lines are cut
    around what they mark.
    """
    paint = _Paint(color, width)
    return "\n\n".join(_diagnostic_text(diagnostic, paint) for diagnostic in view(diagnostics))


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`; "" if there are none."""
    counts = count(view(diagnostics))
    parts = [f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items() if n and name != "info"]
    return ", ".join(parts)


class _Paint:
    """ANSI colours, or none. width: columns there are."""

    def __init__(self, on: bool, width: int = WIDTH) -> None:
        self.on, self.width = on, width

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{_COLORS[style]}m{text}\x1b[0m" if self.on and text else text


def _diagnostic_text(diagnostic: DiagnosticView, paint: _Paint) -> str:
    severity = diagnostic["severity"]
    head = paint(severity, f"{severity}[{diagnostic['code']}]") + paint(
        "bold", f" {diagnostic['name']}: {_clean(diagnostic['message'])}"
    )
    lines = [head]
    gutter = 0
    excerpt = _own_excerpt(diagnostic)
    if excerpt:
        excerpts = _excerpts(diagnostic, excerpt)
        gutter = max(len(str(line)) for line in excerpts) if severity != "info" else 0
        lines.append(
            f"{' ' * gutter} {paint('frame', '-->')} {_clean(excerpt['file'])}:{excerpt['line']}:{excerpt['column']}"
        )
        if severity != "info":
            lines += _frame(excerpt["file"], excerpts, gutter, severity, paint)
    elif diagnostic["label"]:
        lines.append(f"  {paint('frame', '=')} {_clean(diagnostic['label'])}")
    lines += [f"{' ' * gutter}   {_clean(note)}" for note in diagnostic["notes"]]
    if diagnostic["help"]:
        lines.append(f"{' ' * gutter} {paint('frame', '=')} {paint('bold', 'help')}: {_clean(diagnostic['help'])}")
    return "\n".join(lines)


def _own_excerpt(diagnostic: DiagnosticView) -> ExcerptView | None:
    return diagnostic if diagnostic["file"] is not None else None  # type: ignore[return-value]


_Marks = list[tuple[ExcerptView, str, bool]]


def _excerpts(diagnostic: DiagnosticView, excerpt: ExcerptView) -> dict[int, _Marks]:
    """Marks by line, in order; spans in other files are named in the text of the first mark."""
    marks: dict[int, _Marks] = {excerpt["line"]: [(excerpt, diagnostic["label"], True)]}
    for label in diagnostic["labels"]:
        if label["file"] == excerpt["file"]:
            marks.setdefault(label["line"], []).append((label, label["text"], False))
        else:
            text = f"{label['text']}: {label['file']}:{label['line']}"
            first = marks[excerpt["line"]][0]
            marks[excerpt["line"]][0] = (first[0], f"{first[1]}; {text}" if first[1] else text, True)
    return dict(sorted(marks.items()))


def _frame(file: str, excerpts: dict[int, _Marks], gutter: int, severity: str, paint: _Paint) -> list[str]:
    bar = paint("frame", "|")
    lines = [f"{' ' * gutter} {bar}"]
    last = 0
    for number, marks in excerpts.items():
        if last and number > last + 1:
            lines.append(paint("frame", "..."))
        piece = _cut(marks, max(NARROWEST, paint.width - gutter - 3))
        left, right = CUT * piece.begun, CUT * piece.ends_early
        lines.append(f"{paint('frame', str(number).rjust(gutter))} {bar} {left}{_shown(piece.text)}{right}")
        for excerpt, label, first in marks:
            start, end = piece.at(excerpt["column"]), piece.at(excerpt["end_column"])
            if excerpt["end_line"] != excerpt["line"]:
                end = len(piece.text)
            pad = " " * (len(left) + _width(piece.text[:start]))
            mark = ("^" if first else "-") * max(1, _width(piece.text[start : max(start, end)]))
            marked_text = paint(severity if first else "second", f"{mark} {_clean(label)}".rstrip())
            lines.append(f"{' ' * gutter} {bar} {pad}{marked_text}")
        last = number
    return lines


class _Piece(NamedTuple):
    """The part of a line that is shown. column: of its first character in the line, from 1."""

    text: str
    column: int
    begun: bool
    ends_early: bool

    def at(self, column: int) -> int:
        """The index of a column; of one outside, that of the nearest edge."""
        return min(max(0, column - self.column), len(self.text))


def _cut(marks: _Marks, width: int) -> _Piece:
    """The line of these marks in at most that many columns: a third of them before what the first one marks."""
    excerpt = marks[0][0]
    text, column = excerpt["excerpt"], excerpt["excerpt_column"]
    if _width(text) + len(CUT) * (column > 1) <= width:
        return _Piece(text, column, column > 1, ends_early=False)
    room = width - 2 * len(CUT)
    start = max(0, excerpt["column"] - column)
    while start and _width(text[start - 1 : max(0, excerpt["column"] - column)]) <= room // 3:
        start -= 1
    while start and _width(text[start - 1 :]) <= room:
        start -= 1
    end = start
    while end < len(text) and _width(text[start : end + 1]) <= room:
        end += 1
    return _Piece(text[start:end], column + start, column + start > 1, ends_early=end < len(text))


def _clean(text: str) -> str:
    """Replace control characters, which must not reach the terminal."""
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "\ufffd" for char in text)


def _shown(text: str) -> str:
    return _clean(text.replace("\t", "    "))


def _width(text: str) -> int:
    """The width in terminal columns: two for CJK, four for a tab."""
    return sum(4 if char == "\t" else 2 if east_asian_width(char) in "WF" else 1 for char in text)
