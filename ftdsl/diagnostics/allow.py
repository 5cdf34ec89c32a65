"""`# ftc: allow FT505 "reason"`: what an author has looked at and wants to hear no more of.

On the line itself, alone on the line above, or at the head of the file for all of it; in recipes, YAML and scripts alike.
A warning or info can always be allowed. An error of a rule that predicts what an engine does (`judged`) can be, with a
reason: the prediction may be wrong. Other errors cannot: there is nothing sound behind them.
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
    """One comment: what it names, where it counts (`first` to `last` line), and whether anything was kept quiet by it."""

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
    """Take out of the sink what comments allow, and add what is to be said of the comments themselves.

    `complete`: everything was looked at, so that a comment nothing needed is one that can go.
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
    """Whether a comment of the author's, with a reason, says that this is no such thing."""
    source = span.source
    if MARK not in source.text:
        return False
    line = source.position(span.start)[0]
    return any(code in allow.codes and allow.reason and allow.first <= line <= allow.last for allow in _allows(source))


def _taken(allows: list[_Allow], diagnostic: Diagnostic, judged: Container[str]) -> bool:
    """Every comment that covers it counts as needed."""
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
    """A code as it is; a name as its code."""
    return next((code for code, known in CODES.items() if known == name), name)


def _next(lines: list[str], at: int) -> int:
    """The next line that says something."""
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
    heard = allow.used | allow.refused
    for code in (code for code in allow.codes if code not in heard and (complete or code not in CODES)):
        yield Diagnostic("FT017", _idle(code), allow.span, Severity.WARNING, fix=_without(allow, code, alone=not heard))
    for code in sorted(allow.refused):
        help = (
            'say why: `# ftc: allow CODE "reason"`'
            if not allow.reason
            else "mend it instead: nothing sound is behind it"
        )
        text = f"{code} is an error, and cannot be allowed" + ("" if allow.reason else " without a reason")
        yield Diagnostic("FT019", text, allow.span, Severity.WARNING, help=help)
    if allow.used and not allow.reason:
        text = f"nothing says why {', '.join(sorted(allow.used))} is allowed"
        yield Diagnostic("FT018", text, allow.span, Severity.INFO, help='write `# ftc: allow CODE "reason"`')


def _idle(code: str) -> str:
    if code in CODES:
        return f"{code} is allowed here, and does not happen"
    guess = closest(code, [*CODES, *CODES.values()])
    return f"there is no `{code}` to allow" + (f"; did you mean `{guess}`?" if guess else "")


def _without(allow: _Allow, code: str, *, alone: bool) -> Fix:
    """The comment without a code; gone when no other of its codes is needed."""
    source, comment = allow.span.source, allow.span
    if not alone:
        name = re.search(rf"[ ,]+({re.escape(code)}|{re.escape(CODES.get(code, code))})\b", comment.text)
        if name:
            span = Span(source, comment.start + name.start(), comment.start + name.end())
            return Fix(f"take {code} out", (Edit(span, ""),))
    line, _ = source.position(comment.start)
    start = source.line_starts[line - 1]
    if not source.text[start : comment.start].strip():
        end = source.line_starts[line] if line < len(source.line_starts) else len(source.text)
        return Fix("take the comment out", (Edit(Span(source, start, end), ""),))
    start = start + len(source.text[start : comment.start].rstrip())
    return Fix("take the comment out", (Edit(Span(source, start, comment.end), ""),))
