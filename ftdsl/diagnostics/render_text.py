"""Diagnostics for the terminal: the source line, the message under it, and the help."""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import east_asian_width

from ftdsl.diagnostics.model import Diagnostic
from ftdsl.diagnostics.view import DiagnosticView, ExcerptView, count, view

_COLORS = {"error": "1;31", "warning": "1;33", "info": "1;36", "frame": "34", "second": "36", "bold": "1"}


def render(diagnostics: Iterable[Diagnostic], *, color: bool = False) -> str:
    """All diagnostics, separated by blank lines; infos without the source line."""
    return "\n\n".join(_diagnostic_text(diagnostic, _Paint(color)) for diagnostic in view(diagnostics))


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`; "" if there are none."""
    counts = count(view(diagnostics))
    parts = [f"{n} {name}{'s' * (n != 1)}" for name, n in counts.items() if n and name != "info"]
    return ", ".join(parts)


class _Paint:
    """ANSI colours, or none."""

    def __init__(self, on: bool) -> None:
        self.on = on

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
        text, begin = marks[0][0]["excerpt"], marks[0][0]["excerpt_column"]
        cut = "…" if begin > 1 else ""
        lines.append(f"{paint('frame', str(number).rjust(gutter))} {bar} {cut}{_shown(text)}")
        for excerpt, label, first in marks:
            start = min(
                max(0, excerpt["column"] - begin), len(text)
            )  # a span outside the excerpt is marked at its edge
            end = excerpt["end_column"] - begin if excerpt["end_line"] == excerpt["line"] else len(text)
            pad = " " * (len(cut) + _width(text[:start]))
            mark = ("^" if first else "-") * max(1, _width(text[start : max(start, end)]))
            marked_text = paint(severity if first else "second", f"{mark} {_clean(label)}".rstrip())
            lines.append(f"{' ' * gutter} {bar} {pad}{marked_text}")
        last = number
    return lines


def _clean(text: str) -> str:
    """Replace control characters, which must not reach the terminal."""
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "\ufffd" for char in text)


def _shown(text: str) -> str:
    return _clean(text.replace("\t", "    "))


def _width(text: str) -> int:
    """The width in terminal columns: two for CJK, four for a tab."""
    return sum(4 if char == "\t" else 2 if east_asian_width(char) in "WF" else 1 for char in text)
