"""Reads the quoting of bash code, and replaces each name by an expansion.

The expansion depends on the context: `"${FT_X}"` in plain code, `${FT_X}` in double quotes and here-documents; single quotes
are closed before it and opened again. A name is refused where bash would run a value as code (arithmetic, `eval`, `sh -c`),
where bash expands nothing (`<<'EOF'`), and where the reader is not sure what bash would do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ftdsl.engines.shell.commands import HOLE, Refusal, computes, piped, reads_code, refusal
from ftdsl.engines.shell.frames import Frame, Hole, RefusedError

_GOES_ON = frozenset({"then", "do", "else", "elif", "if", "while", "until", "!", "{", "}", "time", "fi", "done"})
"""Words after which a command may begin."""
_COMPUTING = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
_DELIMITER = re.compile(r"""-?[ \t]*(?P<word>(?:\\.|'[^'\n]*'|"[^"\n]*"|[^ \t\n|&;()<>'"\\`])+)""")
_NOTHING = re.compile(r"\([ \t]*\)")
_OPERATOR = re.compile(r"\$\{[!#]?(?:\w+|[@*#?$!-])?(?:\[[^\]]*\])?(.?)", re.DOTALL)


def with_values(parts: Sequence[str | Hole]) -> str:
    """The code with an expansion for every name in it. Raises: RefusedError."""
    text = "".join(HOLE if isinstance(part, Hole) else part for part in parts)
    return _Reader(text, [part for part in parts if isinstance(part, Hole)]).read()


class _Reader:
    """Reads the code once, from left to right; `out` is the code with expansions.

    doubt: why the reader is not sure from here on how bash reads the rest; "" if it is.
    """

    def __init__(self, text: str, holes: Sequence[Hole]) -> None:
        self.text, self.holes = text, holes
        self.at, self.hole = 0, 0
        self.out: list[str] = []
        self.stack = [Frame("code")]
        self.documents: list[Frame] = []
        self.doubt = ""

    def read(self) -> str:
        steps: dict[str, Callable[[Frame, str], None]] = {
            "code": self._code, "single": self._single, "double": self._double, "ansi": self._ansi, "braces": self._braces,
            "arithmetic": self._arithmetic, "comment": self._comment, "document": self._document,
        }  # fmt: skip
        while self.at < len(self.text):
            frame = self.stack[-1]
            steps[frame.kind](frame, self.text[self.at])
        self._pipeline_ends(self._command())
        return "".join(self.out)

    # --- small steps

    def _starts(self, *texts: str) -> bool:
        return self.text.startswith(texts, self.at)

    def _take(self, count: int = 1) -> str:
        taken = self.text[self.at : self.at + count]
        self.out.append(taken)
        self.at += count
        return taken

    def _push(self, frame: Frame, opening: str) -> None:
        self._take(len(opening))
        self.stack.append(frame)

    def _command(self) -> Frame:
        """The innermost code frame around the current quotes and braces."""
        return next(frame for frame in reversed(self.stack) if frame.kind == "code")

    def _letters(self, count: int = 1) -> None:
        """Take part of a word, quoted or not; a document has no words."""
        taken = self._take(count)
        if self.stack[-1].kind != "document":
            code = self._command()
            code.word += taken[-1]
            code.raw += taken

    # --- names

    def _put(self, before: str, after: str) -> None:
        """Write the expansion of a name, between the quotes it needs here."""
        code, document = self._command(), self.stack[-1].kind == "document"
        if self.doubt:
            self._refuse(Refusal(f"ftdsl cannot tell how bash reads this: {self.doubt}", "write that another way"))
        if document and (shell := reads_code(self.stack[-1].readers)):
            self._refuse(piped(shell))
        if code.redirects == "<<<" and (shell := reads_code(code.commands)):
            self._refuse(piped(shell))
        if not (document or code.redirects) and (reason := refusal(code.words, code.word, code.raw)):
            self._refuse(reason)
        self.out.append(f"{before}${{{self.holes[self.hole].variable}}}{after}")
        if not document:
            code.word += HOLE
            code.raw += HOLE
            code.used.append(self.hole)
            code.ever.append(self.hole)
            if code.test is not None:
                code.test.append(self.hole)
                self._check_test(code)
        self.at += 1
        self.hole += 1

    def _refuse(self, reason: Refusal, hole: int | None = None) -> None:
        hole = self.hole if hole is None else hole
        if not (reason.number and self.holes[hole].number):
            raise RefusedError(hole, reason)

    def _check_test(self, code: Frame) -> None:
        """`[[ a -eq b ]]` evaluates both sides as arithmetic."""
        for hole in code.test or () if code.computing else ():
            self._refuse(computes("both sides of `-eq` in `[[ ]]`"), hole)

    def _pipeline_ends(self, code: Frame) -> None:
        """The end of a pipeline; `echo {x} | bash` would run the value."""
        self._word_ends(code)
        if code.used and (shell := reads_code(code.commands[1:])):
            self._refuse(piped(shell), code.used[0])
        code.commands, code.used, code.begins = [[]], [], True

    # --- code

    def _code(self, frame: Frame, char: str) -> None:
        if char == HOLE:
            self._put('"', '"')
        elif char == "\\":
            self._escaped(frame)
        elif char in "'\"":
            frame.raw += char
            self._push(Frame("single" if char == "'" else "double", char), char)
        elif char == "$":
            self._dollar(frame)
            frame.word += "$"
            frame.raw += "$"
        elif char == "`":
            self._backtick()
        elif char in " \t\n;&|<>()":
            self._between(frame, char)
        elif char == "#" and not frame.raw:
            self._push(Frame("comment"), char)
        else:
            self._letters()

    def _escaped(self, frame: Frame) -> None:
        self._doubt_in_backticks()
        following = self.text[self.at + 1 : self.at + 2]
        if following == HOLE:  # the value is quoted as a whole
            self.at += 1
        elif following == "\n":
            self._take(2)
        else:
            self._letters(2)

    def _dollar(self, frame: Frame) -> None:
        """A dollar in code, double quotes, braces, documents and arithmetic."""
        plain = frame.kind in ("code", "arithmetic") or (frame.kind == "braces" and not frame.in_double)
        if self._starts(f"${HOLE}"):  # a dollar, and then the value
            self.out.append("\\")
            self._take()
        elif self._starts("$(("):
            self._push(Frame("arithmetic", ")", depth=2), "$((")
        elif self._starts("$("):
            self._push(Frame("code", ")"), "$(")
        elif self._starts("${"):
            match = _OPERATOR.match(self.text, self.at)
            self._push(Frame("braces", "}", in_double=not plain, operator=match[1] if match else ""), "${")
        elif self._starts("$["):
            self._push(Frame("arithmetic", "]", depth=1), "$[")
        elif plain and self._starts("$'"):
            self._push(Frame("ansi", "'"), "$'")
        else:
            self._take()

    def _between(self, frame: Frame, char: str) -> None:
        """Characters that separate words and commands, and that open and close groups."""
        in_word = bool(frame.raw)
        if char in "<>" and frame.word.isdigit():
            frame.word = frame.raw = ""  # the number of the redirected file
        if frame.test is None and not in_word and self._starts("(("):
            self._push(Frame("arithmetic", ")", depth=2), "((")
            return
        word = frame.word
        self._word_ends(frame)
        pattern = frame.cases[-1:] == ["pattern"]
        if char == "\n":
            self._ends(frame, char)
            self._documents_begin()
        elif frame.test is not None or char in " \t":
            self._take()
        elif char == "(" and not (pattern or word.endswith("=")) and (empty := _NOTHING.match(self.text, self.at)):
            self._take(len(empty[0]))  # a function: its body is a command of its own
            frame.commands[-1], frame.begins = [], True
        elif char == "(" and not (pattern and not in_word):
            self._push(Frame("code", ")", subshell=not in_word), char)
        elif char == ")":
            self._closes(frame)
        elif self._starts("<<<"):
            self._take(3)
            frame.redirects = "<<<"
        elif self._starts("<<"):
            self._here_document(frame)
        elif self._starts("&>") or char in "<>":
            frame.redirects = self._take(2 if self._starts("&>", ">&", "<&", ">|", "<>", ">>") else 1)
        elif char in ";&|":
            self._ends(frame, next(mark for mark in (";;&", ";;", ";&", "&&", "||", "|&", char) if self._starts(mark)))
        else:
            self._take()

    def _ends(self, frame: Frame, mark: str) -> None:
        """The end of a command, or of a pipeline."""
        self._take(len(mark))
        if frame.test is not None:
            return
        if mark in (";;", ";&", ";;&") and frame.cases[-1:] == ["body"]:
            frame.cases[-1] = "pattern"
        if mark in ("|", "|&") and frame.cases[-1:] != ["pattern"]:
            frame.commands.append([])
            frame.begins = True
        else:
            self._pipeline_ends(frame)

    def _closes(self, frame: Frame) -> None:
        if frame.cases[-1:] == ["pattern"]:
            frame.cases[-1] = "body"
            self._take()
            self._pipeline_ends(frame)
        elif frame.closer == ")":
            used = frame.ever if frame.subshell else []
            self._pipeline_ends(frame)
            self._take()
            self.stack.pop()
            self._command().used += used
        else:
            self._take()

    def _word_ends(self, frame: Frame) -> None:
        word, frame.word, raw, frame.raw = frame.word, "", frame.raw, ""
        if not raw:
            return
        plain = word if raw == word else ""
        if frame.redirects:
            frame.redirects = ""
            return
        if frame.test is not None:
            frame.computing |= plain in _COMPUTING
            self._check_test(frame)
            frame.words.append(word)
            if plain == "]]":
                frame.test, frame.computing = None, False
        elif plain == "esac" and frame.cases and (frame.begins or frame.cases[-1] == "pattern"):
            frame.cases.pop()
            frame.begins = True
        elif frame.cases[-1:] == ["subject"] and plain == "in":
            frame.cases[-1] = "pattern"
            frame.commands[-1], frame.begins = [], True
        elif frame.cases[-1:] != ["pattern"] and not (frame.begins and plain in _GOES_ON):
            if frame.begins and plain == "case":
                frame.cases.append("subject")
            if frame.begins and plain == "[[":
                frame.test = []
            if plain == "{" and frame.words[:1] == ["function"]:
                frame.commands[-1], frame.begins = [], True
                return
            frame.words.append(word)
            frame.begins = frame.begins and re.match(r"[A-Za-z_]\w*\+?=", word) is not None

    # --- quotes

    def _single(self, frame: Frame, char: str) -> None:
        if char == HOLE:
            self._put("'\"", "\"'")
        elif char == "'":
            self._quote_ends()
        elif char == "`" and self._in_backticks():
            self._backtick()
        else:
            self._letters()

    def _ansi(self, frame: Frame, char: str) -> None:
        if char == HOLE:
            self._put("'\"", "\"$'")
        elif char == "\\":
            self._backslash()
        elif char == "'":
            self._quote_ends()
        elif char == "`" and self._in_backticks():
            self._backtick()
        else:
            self._letters()

    def _double(self, frame: Frame, char: str) -> None:
        if char == HOLE:
            self._put("", "")
        elif char == "\\":
            self._backslash()
        elif char == '"':
            self._quote_ends()
        elif char == "$":
            self._command().raw += "$"
            self._dollar(frame)
        elif char == "`":
            self._backtick()
        else:
            self._letters()

    def _backslash(self) -> None:
        """Before a name it is a literal backslash, and must not escape the first character of the expansion."""
        self._doubt_in_backticks()
        if self._starts(f"\\{HOLE}"):
            self.out.append("\\")
            self._letters()
        else:
            self._letters(2)

    def _quote_ends(self) -> None:
        self._command().raw += self.text[self.at]
        self._take()
        self.stack.pop()

    # --- backticks

    def _in_backticks(self) -> bool:
        return any(frame.closer == "`" for frame in self.stack)

    def _doubt_in_backticks(self) -> None:
        if self._in_backticks():
            self.doubt = self.doubt or "a backslash within backticks (`$(…)` would be clear)"

    def _backtick(self) -> None:
        """Opens a command, or ends the open one, whatever quotes are open in it."""
        if not self._in_backticks():
            self._push(Frame("code", "`"), "`")
            return
        if self.stack[-1].closer != "`":
            self.doubt = self.doubt or "a backtick ends a command within quotes"
        while self.stack[-1].closer != "`":
            self.stack.pop()
        self._pipeline_ends(self.stack[-1])
        self._take()
        self.stack.pop()

    # --- braces, arithmetic, comments

    def _braces(self, frame: Frame, char: str) -> None:
        if char == HOLE:
            help = "assign it to a shell variable first: NAME={x}"
            self._refuse(Refusal("bash has special rules for the text in `${…}`", help))
        elif char == "\\":
            self._take(2)
        elif char == "}":
            self._take()
            self.stack.pop()
        elif char == "$":
            self._dollar(frame)
        elif char == '"':
            self._push(Frame("double", char), char)
        elif char == "'" and not (frame.in_double and frame.operator not in "#%"):
            self._push(Frame("single", char), char)
        elif char == "`":
            self._backtick()
        else:
            if char == "'" and frame.operator in "/^,@":
                self.doubt = self.doubt or "a single quote in `${…}` within double quotes"
            self._take()

    def _arithmetic(self, frame: Frame, char: str) -> None:
        if char == HOLE:
            self._refuse(computes("the text in `((…))`" if frame.closer == ")" else "the text in `$[…]`"))
            self._put("", "")
        elif char == "\\":
            self._take(2)
        elif char == ("(" if frame.closer == ")" else "["):
            frame.depth += 1
            self._take()
        elif char == frame.closer:
            frame.depth -= 1
            self._take()
            if not frame.depth:
                self.stack.pop()
        elif char == "$":
            self._dollar(frame)
        elif char in "'\"":
            self._push(Frame("single" if char == "'" else "double", char), char)
        elif char == "`":
            self._backtick()
        else:
            self._take()

    def _comment(self, frame: Frame, char: str) -> None:
        if char == "\n" or (char == "`" and self._in_backticks()):
            self.stack.pop()
        elif char == HOLE:
            self.out.append(f"${{{self.holes[self.hole].variable}}}")
            self.at += 1
            self.hole += 1
        else:
            self._take()

    # --- here-documents

    def _here_document(self, frame: Frame) -> None:
        self._take(2)
        match = _DELIMITER.match(self.text, self.at)
        if match is None:
            return
        written = match["word"]
        if HOLE in written:
            self._refuse(Refusal("the delimiter of a here-document must be a fixed word", "write `<<EOF`"))
        quoted = any(char in written for char in "'\"\\")
        word = re.sub(r"\\(.)|['\"]", r"\1", written)
        strip = match[0].startswith("-")
        self.documents.append(Frame("document", word, quoted=quoted, strip=strip, readers=frame.commands))
        self._take(len(match[0]))

    def _documents_begin(self) -> None:
        if self.documents:
            self.stack += reversed(self.documents)
            self.documents = []
            self._document_line()

    def _document_line(self) -> None:
        """At the start of a line: end the document if the line is its delimiter."""
        while (frame := self.stack[-1]).kind == "document":
            end = self.text.find("\n", self.at)
            line = self.text[self.at : len(self.text) if end < 0 else end]
            if (line.lstrip("\t") if frame.strip else line) != frame.closer:
                return
            self.stack.pop()
            self._take(len(line) + (end >= 0))

    def _document(self, frame: Frame, char: str) -> None:
        if char == "\n":
            self._take()
            self._document_line()
        elif char == HOLE and frame.quoted:
            why = f"bash expands nothing in a here-document whose delimiter is quoted (`<<'{frame.closer}'`)"
            self._refuse(Refusal(why, f"write `<<{frame.closer}`, and `\\$` for a literal dollar"))
        elif frame.quoted:
            self._take()
        elif char == HOLE:
            self._put("", "")
        elif self._starts(f"\\{HOLE}"):
            self.out.append("\\")
            self._take()
        elif char == "\\":
            self._take(2)  # also a line continuation: the next line does not end the document then
        elif char == "$":
            self._dollar(frame)
        elif char == "`":
            self._backtick()
        else:
            self._take()
