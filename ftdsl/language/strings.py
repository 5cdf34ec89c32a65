"""Strings: escapes, `{name}` holes, raw and triple forms.

`"…"` has escapes and holes, `'…'` is raw. `{{` and `}}` are braces; `${X}` is left for the shell. The triple-quoted forms may
span lines; they lose a line break directly after the opening quotes, and the common indentation of non-blank lines.
"""

from __future__ import annotations

import re

from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.source import Span

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "\n": ""}
_HOLE = re.compile(r"\{\s*([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\s*\}")


def read(span: Span, sink: Sink, *, closed: bool = True) -> tree.Text:
    """The text of a string token; errors are reported at their own spans."""
    written = span.text
    quotes = written[:3] if written[:3] in ('"""', "'''") else written[:1]
    start = span.start + len(quotes)
    end = span.end - len(quotes) if closed else span.end
    raw = quotes[0] == "'"
    body = Span(span.source, start, max(start, end))
    parts: list[str | tree.Hole] = [body.text] if raw else _parts(body, sink)
    if len(quotes) == 3:
        parts = _dedent(parts)
    if "\0" in body.text:  # invalid in paths, shell and YAML
        at = body.start + body.text.index("\0")
        sink.error("FT039", "a text cannot contain a null character", Span(span.source, at, at + 1), help="remove it")
        parts = [part.replace("\0", "\ufffd") if isinstance(part, str) else part for part in parts]
    return tree.Text(tuple(part for part in parts if part != ""), span)


def _parts(body: Span, sink: Sink) -> list[str | tree.Hole]:
    text, at, source = body.text, 0, body.source
    parts: list[str | tree.Hole] = [""]

    def add(piece: str) -> None:
        last = parts[-1]
        if isinstance(last, str):
            parts[-1] = last + piece
        else:
            parts.append(piece)

    while at < len(text):
        char = text[at]
        if char == "\\":
            piece, size = _escape(text, at, Span(source, body.start + at, min(body.end, body.start + at + 2)), sink)
            add(piece)
            at += size
        elif text.startswith("${", at):
            end = text.find("}", at)
            end = len(text) if end < 0 else end + 1
            add(text[at:end])
            at = end
        elif text.startswith(("{{", "}}"), at):
            add(char)
            at += 2
        elif char == "{":
            at = _hole(body, at, parts, sink)
        else:
            stop = re.compile(r"[\\${}]").search(text, at + 1)
            end = stop.start() if stop else len(text)
            add(text[at:end])
            at = end
    return parts


def _escape(text: str, at: int, span: Span, sink: Sink) -> tuple[str, int]:
    follows = text[at + 1 : at + 2]
    if follows in _ESCAPES:
        return _ESCAPES[follows], 2
    if (
        follows == "u"
        and (code := re.match(r"\{?([0-9A-Fa-f]{1,6})\}?", text[at + 2 :]))
        and int(code[1], 16) < 0x110000
    ):
        number = int(code[1] if text[at + 2] == "{" else code[1][:4], 16)
        if number and not 0xD800 <= number < 0xE000:
            return chr(number), 2 + (len(code[0]) if text[at + 2] == "{" else min(4, len(code[1])))
    sink.error(
        "FT039", f"unknown escape `\\{follows}`", span, help="write `\\\\` for a backslash, or '…' for a raw text"
    )
    return follows, 1 + len(follows)


def _hole(body: Span, at: int, parts: list[str | tree.Hole], sink: Sink) -> int:
    match = _HOLE.match(body.text, at)
    if match is None:
        end = body.text.find("}", at)
        end = at + 1 if end < 0 or "\n" in body.text[at:end] else end + 1
        span = Span(body.source, body.start + at, body.start + end)
        help = "write `{{` and `}}` for braces, or a name: `{name}`"
        sink.error("FT039", f"`{span.text[:40]}` is not a name in braces", span, help=help)
        return end
    offset = body.start + match.start(1)
    names = []
    for word in match[1].split("."):
        names.append(tree.Word(word, Span(body.source, offset, offset + len(word))))
        offset += len(word) + 1
    parts.append(tree.Hole(tuple(names), Span(body.source, body.start + at, body.start + match.end())))
    return match.end()


def _dedent(parts: list[str | tree.Hole]) -> list[str | tree.Hole]:
    """Drop the first line break and the common indentation."""
    if parts and isinstance(parts[0], str):
        parts = [re.sub(r"^[ \t]*\r?\n", "", parts[0], count=1), *parts[1:]]
        first: list[str] = [parts[0]] if isinstance(parts[0], str) else []
    else:
        first = []
    lines = "".join(part if isinstance(part, str) else "\0" for part in parts).split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    common = min(indents, default=0)
    if not common:
        return parts
    at_start = re.compile(rf"(?m)(?:(?<=\n)|\A)[ \t]{{1,{common}}}")
    inner = re.compile(rf"(?<=\n)[ \t]{{1,{common}}}")
    dedented: list[str | tree.Hole] = []
    for index, part in enumerate(parts):
        pattern = at_start if index == 0 and first else inner
        dedented.append(pattern.sub("", part) if isinstance(part, str) else part)
    return dedented
