"""Diagnostics for a person: the line, what is wrong under it, and what can be typed."""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import east_asian_width

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import DiagnosticView, Place, count, view

_COLORS = {"error": "1;31", "warning": "1;33", "info": "1;36", "frame": "34", "second": "36", "bold": "1"}


def render(diagnostics: Iterable[Diagnostic], *, color: bool = False) -> str:
    """All diagnostics, a blank line between two; infos are short, since nothing has to be mended there."""
    return "\n\n".join(_one(found, _Paint(color)) for found in view(diagnostics))


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`; "" when there are neither."""
    counts = count(view(diagnostics))
    parts = [f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items() if n and name != "info"]
    return ", ".join(parts)


class _Paint:
    """ANSI colours, or none."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{_COLORS[style]}m{text}\x1b[0m" if self.on and text else text


def _one(found: DiagnosticView, paint: _Paint) -> str:
    severity = found["severity"]
    head = paint(severity, f"{severity}[{found['code']}]") + paint(
        "bold", f" {found['name']}: {_clean(found['message'])}"
    )
    lines = [head]
    gutter = 0
    place = _own_place(found)
    if place:
        excerpts = _excerpts(found, place)
        gutter = max(len(str(line)) for line in excerpts) if severity != "info" else 0
        lines.append(
            f"{' ' * gutter} {paint('frame', '-->')} {_clean(place['file'])}:{place['line']}:{place['column']}"
        )
        if severity != "info":
            lines += _frame(place["file"], excerpts, gutter, severity, paint)
    elif found["label"]:
        lines.append(f"  {paint('frame', '=')} {_clean(found['label'])}")
    lines += [f"{' ' * gutter}   {_clean(note)}" for note in found["notes"]]
    if found["help"]:
        lines.append(f"{' ' * gutter} {paint('frame', '=')} {paint('bold', 'help')}: {_clean(found['help'])}")
    return "\n".join(lines)


def _own_place(found: DiagnosticView) -> Place | None:
    return found if found["file"] is not None else None  # type: ignore[return-value]


_Marks = list[tuple[Place, str, bool]]


def _excerpts(found: DiagnosticView, place: Place) -> dict[int, _Marks]:
    """Marks by line, in the order of lines; only places of the same file are drawn, others are named."""
    marks: dict[int, _Marks] = {place["line"]: [(place, found["label"], True)]}
    for label in found["labels"]:
        if label["file"] == place["file"]:
            marks.setdefault(label["line"], []).append((label, label["text"], False))
        else:
            text = f"{label['text']}: {label['file']}:{label['line']}"
            first = marks[place["line"]][0]
            marks[place["line"]][0] = (first[0], f"{first[1]}; {text}" if first[1] else text, True)
    return dict(sorted(marks.items()))


def _frame(file: str, excerpts: dict[int, _Marks], gutter: int, severity: str, paint: _Paint) -> list[str]:
    bar = paint("frame", "|")
    lines = [f"{' ' * gutter} {bar}"]
    last = 0
    for number, marks in excerpts.items():
        if last and number > last + 1:
            lines.append(paint("frame", "..."))
        text, begin = marks[0][0]["excerpt"], marks[0][0]["excerpt_column"]
        cut = "…" if begin > 1 else ""
        lines.append(f"{paint('frame', str(number).rjust(gutter))} {bar} {cut}{_shown(text)}")
        for place, label, first in marks:
            start = min(max(0, place["column"] - begin), len(text))  # another place of a long line: at its edge
            end = place["end_column"] - begin if place["end_line"] == place["line"] else len(text)
            pad = " " * (len(cut) + _width(text[:start]))
            mark = ("^" if first else "-") * max(1, _width(text[start : max(start, end)]))
            said = paint(severity if first else "second", f"{mark} {_clean(label)}".rstrip())
            lines.append(f"{' ' * gutter} {bar} {pad}{said}")
        last = number
    return lines


def _clean(text: str) -> str:
    """No control characters from a recipe reach the terminal."""
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "\ufffd" for char in text)


def _shown(text: str) -> str:
    return _clean(text.replace("\t", "    "))


def _width(text: str) -> int:
    """Columns a terminal needs: CJK takes two, a tab four."""
    return sum(4 if char == "\t" else 2 if east_asian_width(char) in "WF" else 1 for char in text)
