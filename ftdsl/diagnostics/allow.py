"""`# ftc: allow FT505 "reason"`: comments that suppress diagnostics.

Valid at the end of the line, on a separate line above it, or at the top of the file for the whole file; in recipes, YAML and
scripts. Warnings and infos can always be suppressed. Errors of rules that predict an engine's behaviour (`judged`) can be, with a
reason, since the prediction may be wrong. Other errors cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import field

from ftdsl.diagnostics.codes import CODES
from ftdsl.diagnostics.model import Diagnostic, Edit, Fix, Severity
from ftdsl.diagnostics.sink import Sink
from ftdsl.diagnostics.suggest import closest
from ftdsl.record import mutable
from ftdsl.source import Source, Span

MARK = "ftc: allow"
_BLOCK = re.compile(r'"""[\s\S]*?"""' + r"|'''[\s\S]*?'''")
_LINE = re.compile(r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[^#\n"'])*(?P<comment>#[^\n]*)""")
_ALLOW = re.compile(r"""ftc: allow(?P<codes>(?:[ ,]+[A-Za-z][\w-]*)+)\s*(?:["'](?P<reason>[^"']*)["'])?""")


@mutable
class _Allow:
    """A comment: its codes, the lines it covers (`first` to `last`), the codes it suppressed (`used`) or cannot (`refused`)."""

    span: Span
    codes: tuple[str, ...]
    reason: str
    first: int
    last: int
    used: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


def apply(
    sink: Sink, sources: Iterable[Source], judged: Callable[[], Container[str]], *, complete: bool = True
) -> None:
    """Remove the diagnostics that comments allow from the sink, and report problems of the comments themselves.

    judged: codes of the rules whose errors can be suppressed; complete: all checks ran, so that unused comments are reported.
    """
    texts = {
        source.name: source
        for source in [*sources, *(diagnostic.span.source for diagnostic in sink if diagnostic.span)]
    }
    allows = [allow for source in texts.values() if MARK in source.text for allow in _allows(source)]
    if not allows:
        return
    predicted = judged()
    for diagnostic in list(sink):
        if diagnostic.span is not None and _taken(allows, diagnostic, predicted):
            sink.drop(diagnostic)
    complete = complete and not sink.failed
    for allow in allows:
        for remark in _about(allow, complete):
            sink.add(remark)


def covers(span: Span, code: str) -> bool:
    """Whether a comment with a reason allows the code at this span."""
    source = span.source
    if MARK not in source.text:
        return False
    line = source.position(span.start)[0]
    return any(code in allow.codes and allow.reason and allow.first <= line <= allow.last for allow in _allows(source))


def _taken(allows: list[_Allow], diagnostic: Diagnostic, judged: Container[str]) -> bool:
    """Whether a comment suppresses it; every such comment is marked as used."""
    return sum(_takes(allow, diagnostic, judged) for allow in allows) > 0


def _allows(source: Source) -> Iterator[_Allow]:
    text = _BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block.group()), source.text)
    lines = text.split("\n")
    head = next((at for at, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    for at, line in enumerate(lines):
        comment = _LINE.match(line) if MARK in line else None
        match = _ALLOW.search(comment["comment"]) if comment else None
        if comment is None or match is None:
            continue
        start = source.line_starts[at] + comment.start("comment")
        span = Span(source, start, start + len(comment["comment"].rstrip()))
        names = tuple(_code(name) for name in re.split(r"[ ,]+", match["codes"].strip(" ,")))
        if comment.start("comment") == 0 and at < head:
            first, last = 1, len(lines)
        elif line[: comment.start("comment")].strip():
            first = last = at + 1
        else:
            first = last = _next(lines, at) + 1
        yield _Allow(span, names, match["reason"] or "", first, last)


def _code(name: str) -> str:
    """The code for a code or a name."""
    return next((code for code, known_name in CODES.items() if known_name == name), name)


def _next(lines: list[str], at: int) -> int:
    """The next line that is neither blank nor a comment."""
    rest = range(at + 1, len(lines))
    return next((n for n in rest if lines[n].strip() and not lines[n].lstrip().startswith("#")), at)


def _takes(allow: _Allow, diagnostic: Diagnostic, judged: Container[str]) -> bool:
    assert diagnostic.span is not None
    source = diagnostic.span.source
    if (
        source.name != allow.span.source.name
        or source.text != allow.span.source.text
        or diagnostic.code not in allow.codes
    ):
        return False
    if not allow.first <= source.position(diagnostic.span.start)[0] <= allow.last:
        return False
    if diagnostic.severity is Severity.ERROR and not (diagnostic.code in judged and allow.reason):
        allow.refused.add(diagnostic.code)
        return False
    allow.used.add(diagnostic.code)
    return True


def _about(allow: _Allow, complete: bool) -> Iterator[Diagnostic]:
    matched = allow.used | allow.refused
    for code in (code for code in allow.codes if code not in matched and (complete or code not in CODES)):
        yield Diagnostic(
            "FT017", _idle(code), allow.span, Severity.WARNING, fix=_without(allow, code, alone=not matched)
        )
    for code in sorted(allow.refused):
        help = 'add a reason: `# ftc: allow CODE "reason"`' if not allow.reason else "fix the error"
        text = f"{code} is an error, which cannot be allowed" + ("" if allow.reason else " without a reason")
        yield Diagnostic("FT019", text, allow.span, Severity.WARNING, help=help)
    if allow.used and not allow.reason:
        text = f"{', '.join(sorted(allow.used))} is allowed without a reason"
        yield Diagnostic("FT018", text, allow.span, Severity.INFO, help='write `# ftc: allow CODE "reason"`')


def _idle(code: str) -> str:
    if code in CODES:
        return f"{code} is allowed here, but not reported"
    guess = closest(code, [*CODES, *CODES.values()])
    return f"unknown code `{code}`" + (f"; did you mean `{guess}`?" if guess else "")


def _without(allow: _Allow, code: str, *, alone: bool) -> Fix:
    """Remove a code from the comment, or (`alone`) the whole comment."""
    source, comment = allow.span.source, allow.span
    if not alone:
        name = re.search(rf"[ ,]+({re.escape(code)}|{re.escape(CODES.get(code, code))})\b", comment.text)
        if name:
            span = Span(source, comment.start + name.start(), comment.start + name.end())
            return Fix(f"remove {code}", (Edit(span, ""),))
    line, _ = source.position(comment.start)
    start = source.line_starts[line - 1]
    if not source.text[start : comment.start].strip():
        end = source.line_starts[line] if line < len(source.line_starts) else len(source.text)
        return Fix("remove the comment", (Edit(Span(source, start, end), ""),))
    start = start + len(source.text[start : comment.start].rstrip())
    return Fix("remove the comment", (Edit(Span(source, start, comment.end), ""),))
