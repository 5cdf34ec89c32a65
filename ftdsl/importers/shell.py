"""A shell script or command line as simple commands, each word with its place. Read, never executed.

Knows comments, line continuations, quotes, `NAME=value`, `export`, `$NAME`, `${NAME:-default}`, and what ends a command.
Of what it cannot know without running it (`$(…)`, `$1`, loops, here-documents) it says so and goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field

from ftdsl.diagnostics import Sink
from ftdsl.importers.draft import Note
from ftdsl.record import frozen, mutable
from ftdsl.source import Source, Span

_ASSIGN = re.compile(r"([A-Za-z_]\w*)=", re.ASCII)
_EXPAND = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?-([^}\n]*))?\}|([A-Za-z_]\w*))", re.ASCII)
_RUNS = re.compile(r"`|\$[0-9@*#?{(]")
_REDIRECTION = re.compile(r"\d*[<>]+&?[ \t]*[^\s;|&]*")
_PIECE = re.compile(r"""\$\{[^}\n]*\}|\$[A-Za-z_]\w*|\$|[^ \t\r\n;|&<>'"\\$`]+""")
"""Only a blank, a tab and a line break part words: a non-breaking space, pasted from a web page, is a letter like any other."""
_END = (";", "&", "|", "\n")
_COMPOUND = ("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "function", "select",
             "{", "}", "(", ")", "[[")  # fmt: skip


MAX_WORD = 128 << 10
"""Characters of a word; the most that Linux takes as one argument."""

MAX_SCRIPT = 1 << 20
"""Characters of a script that is read."""


@frozen
class Word:
    """One word, quotes gone and variables put in. `known` is False where part of it only a shell could tell."""

    text: str
    span: Span
    known: bool = True


@frozen
class Simple:
    """One command: its words, and the environment it is started with (exported before, or put before it)."""

    words: tuple[Word, ...]
    env: Mapping[str, Word]


@mutable
class Script:
    """What was read: commands in order, and notes on what was not understood."""

    commands: list[Simple] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def read(source: Source, sink: Sink) -> Script:
    """Every simple command of a script; nothing, and FT050 in the sink, of one that is too large."""
    if len(source.text) > MAX_SCRIPT:
        sink.error("FT050", f"it is larger than {MAX_SCRIPT >> 20} MiB, which no script is", Span(source, 0, 0))
        return Script()
    script, variables, exported = Script(), dict[str, Word](), dict[str, Word]()
    for raw in _Lexer(source, script.notes).commands():
        words = [_expanded(word, variables, script.notes) for word in raw]
        before: dict[str, Word] = {}
        while words and (match := _ASSIGN.match(raw[len(before)].text)):
            text = words[0].text[match.end() :]
            before[match[1]] = Word(text, words[0].span, words[0].known)
            words = words[1:]
            if len(before) == len(raw):
                break
        if not words:
            variables |= before
            exported |= {name: word for name, word in before.items() if name in exported}
        elif words[0].text in ("export", "declare", "typeset", "local", "readonly"):
            _export(words[1:], variables, exported)
        elif words[0].text in _COMPOUND:
            script.notes.append(
                Note(words[0].text, "is not followed: only a shell could tell what runs", words[0].span)
            )
        else:
            script.commands.append(Simple(tuple(words), {**exported, **before}))
    return script


def _export(words: list[Word], variables: dict[str, Word], exported: dict[str, Word]) -> None:
    for word in words:
        name, equals, value = word.text.partition("=")
        if equals:
            variables[name] = exported[name] = Word(value, word.span, word.known)
        elif name in variables:
            exported[name] = variables[name]


@frozen
class _Raw:
    """A word before expansion: pieces of text, each with whether `$` means something in it."""

    pieces: tuple[tuple[str, bool], ...]
    span: Span

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


def _expanded(raw: _Raw, variables: Mapping[str, Word], notes: list[Note]) -> Word:
    known, room = True, MAX_WORD

    def put(match: re.Match[str]) -> str:
        nonlocal known, room
        name = match[1] or match[3]
        if name in variables:
            room -= len(variables[name].text)
            known = known and variables[name].known
            return variables[name].text if room >= 0 else ""
        if match[2] is not None:
            return match[2].strip("\"'")
        known = False
        notes.append(Note(match[0], "is set outside of this script", raw.span))
        return match[0]

    text = "".join(_EXPAND.sub(put, piece) if live else piece for piece, live in raw.pieces)
    if room < 0 or len(text) > MAX_WORD:  # variables of variables of variables
        notes.append(Note(raw.span.text[:40], "is longer than a shell hands on", raw.span))
        return Word(raw.text[:MAX_WORD], raw.span, False)
    if any(live and _RUNS.search(_EXPAND.sub("", piece)) for piece, live in raw.pieces):
        known = False
        notes.append(Note(raw.span.text[:40], "only a shell could tell what this is", raw.span))
    return Word(text, raw.span, known)


class _Lexer:
    """Text to raw words, command by command."""

    def __init__(self, source: Source, notes: list[Note]) -> None:
        self.source, self.text, self.at, self.notes = source, source.text, 0, notes

    def commands(self) -> Iterator[list[_Raw]]:
        words: list[_Raw] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if self.text.startswith(("\\\n", "\\\r\n"), self.at):
                self.at += 2 + (self.text[self.at + 1] == "\r")
            elif char in " \t\r":
                self.at += 1
            elif char == "#":
                self.at = self._line_end()
            elif char in _END:
                self.at += 1
                if words:
                    yield words
                words = []
            elif _REDIRECTION.match(self.text, self.at):
                self._redirection()
            else:
                words.append(self._word())
        if words:
            yield words

    def _line_end(self) -> int:
        end = self.text.find("\n", self.at)
        return len(self.text) if end < 0 else end

    def _redirection(self) -> None:
        """`> log.txt`, `2>&1`; a here-document is skipped whole, and said."""
        start = self.at
        if match := re.compile(r"<<-?\s*(['\"]?)(\w+)\1").match(self.text, self.at):
            end = re.compile(rf"^\s*{match[2]}\s*$", re.M).search(self.text, match.end())
            self.at = end.end() if end else len(self.text)
            self.notes.append(Note(match[0], "a here-document is not read", Span(self.source, start, match.end())))
            return
        match = _REDIRECTION.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def _word(self) -> _Raw:
        start, pieces = self.at, list[tuple[str, bool]]()
        while self.at < len(self.text) and self.text[self.at] not in " \t\r\n;|&<>":
            if self.text.startswith(("\\\n", "\\\r\n"), self.at):
                self.at += 2 + (self.text[self.at + 1] == "\r")
                continue
            pieces.append(self._piece())
        return _Raw(tuple(pieces), Span(self.source, start, self.at))

    def _piece(self) -> tuple[str, bool]:
        char = self.text[self.at]
        if char in "'\"":
            return self._quoted(char)
        if char == "\\":
            start, self.at = self.at + 1, min(len(self.text), self.at + 2)
            return self.text[start : self.at], False
        if self.text.startswith("$(", self.at) or char == "`":
            return self._substitution(), True
        match = _PIECE.match(self.text, self.at)
        self.at = match.end() if match else self.at + 1
        return match[0] if match else char, True

    def _quoted(self, quote: str) -> tuple[str, bool]:
        start = self.at
        pattern = r"'[^']*'" if quote == "'" else r'"(?:\\.|[^"\\])*"'
        match = re.compile(pattern, re.S).match(self.text, self.at)
        if match is None:
            self.at = self._line_end()
            self.notes.append(Note(quote, "this quote is never closed", Span(self.source, start, self.at)))
            return self.text[start + 1 : self.at], quote == '"'
        self.at = match.end()
        body = match[0][1:-1]
        return (re.sub(r'\\([\\"$`\n])', r"\1", body), True) if quote == '"' else (body, False)

    def _substitution(self) -> str:
        start = self.at
        if self.text[self.at] == "`":
            end = self.text.find("`", self.at + 1)
            self.at = len(self.text) if end < 0 else end + 1
            return self.text[start : self.at]
        depth = 0
        while self.at < len(self.text):
            depth += {"(": 1, ")": -1}.get(self.text[self.at], 0)
            self.at += 1
            if not depth and self.at > start + 2:
                break
        return self.text[start : self.at]
