"""Error recovery: feeds tokens to the LALR parser; for a token that does not fit, reports once, repairs and continues.

Repairs are tried in order: insert a missing token (value, binder, line break, brace), drop a token that fits nowhere, else skip
the item. The parser's own stack determines which blocks are open.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from lark import Token
from lark.exceptions import UnexpectedToken

from ftdsl.diagnostics import Diagnostic, Edit, Fix, Label, Sink
from ftdsl.language import lexing, unquoted
from ftdsl.language.tokens import ENDS, OPENERS, TOKEN_NAMES, first_offset, token_at
from ftdsl.language.types import either
from ftdsl.source import Source, Span

CLOSE = "close it with `}`"

REPAIRS = 64
"""Maximum number of repairs before one token; closing a block is one."""

LABELS = 4
"""Maximum number of outer blocks that are labelled when a block is never closed."""


class Driver:
    """One run over the tokens of a source."""

    def __init__(self, source: Source, tokens: list[Token], closes: Closes | None = None) -> None:
        self.source = source
        self.tokens = tokens
        self.sink = Sink()
        self.closes = closes
        self.at = 0
        self.state: Any = lexing.parser().parse_interactive("")
        self.dry = copy(self.state.parser_state.parse_conf)
        self.dry.callbacks = {}  # a trial must not build trees: Lark's callbacks reuse their children's lists
        self.braces: list[int] = []  # indices in `tokens` of the open braces
        self.quiet_line = -1
        self.unclosed = False

    def run(self) -> Any:
        """The root of Lark's tree."""
        repairs, last = 0, -1
        while self.at < len(self.tokens):
            repairs, last = (repairs + 1, last) if self.at == last else (0, self.at)
            if repairs > REPAIRS:
                self._unexpected(self.tokens[self.at])
                self._swallow()
                self.at = max(self.at, last + 1)
            else:
                self._next()
        return self._finish(self._end_token())

    # --- tokens

    def _next(self) -> None:
        token = self.tokens[self.at]
        if self.closes is not None and self.braces:
            self._close_blocks(token)
        if self._repaired_before(token):
            return
        self._feed(token)

    def _feed(self, token: Token) -> None:
        try:
            self.state.feed_token(token)
        except UnexpectedToken:
            self._recover(token)
            return
        self._track(token)
        self.at += 1

    def _track(self, token: Token) -> None:
        if token.type == "LBRACE":
            self.braces.append(self.at)
        elif token.type == "RBRACE" and self.braces:
            self.braces.pop()

    def _supply(self, kind: str, text: str = "") -> bool:
        """Insert a token after the last one; False if it does not fit."""
        if not self._fits(kind):
            return False
        end = self._before().end
        self.state.feed_token(token_at(kind, text, end, end, self.source))
        return True

    def _fits(self, kind: str) -> bool:
        """Whether the parser accepts a token of this kind now (reductions included)."""
        trial = self.state.copy(deepcopy_values=False)
        trial.parser_state.parse_conf = self.dry
        try:
            trial.feed_token(Token(kind, ""))
        except UnexpectedToken:
            return False
        return True

    def _span(self, token: Token) -> Span:
        return Span(self.source, token.start_pos or 0, token.end_pos or 0)

    def _at_offset(self) -> int:
        return self.tokens[self.at].start_pos or 0

    def _before(self) -> Span:
        """The span of the token before the current one, ignoring line breaks."""
        at = self.at - 1
        while at >= 0 and self.tokens[at].type == "_NL":
            at -= 1
        return self._span(self.tokens[at]) if at >= 0 else Span(self.source, 0, 0)

    def _end_token(self) -> Token:
        size = len(self.source.text)
        return token_at("$END", "", size, size, self.source)

    def _peek(self, ahead: int) -> str:
        return self.tokens[self.at + ahead].type if self.at + ahead < len(self.tokens) else "$END"

    # --- repairs before the parser sees the token

    def _repaired_before(self, token: Token) -> bool:
        """Repair syntax of other languages that two tokens reveal."""
        if self.at and self.tokens[self.at - 1].type in ("EQUAL", "LPAR") and self._sentence():
            return True
        if token.type == "UNCLOSED":
            self._unclosed_text(token)
            return True
        if token.type in ("SLASH", "DOT", "__ANON_0", "TILDE", "STRAY") and self._bare_text(self.at):
            return True
        if token.type == "RBRACE" and self._closing_brace(token):
            return True  # before feeding: the parser would close the body of the file, and lose its items
        if token.type == "COLON" and self._fits("EQUAL") and not self._fits("COLON"):
            return self._colon(token)
        if token.type == "EQUAL" and self._peek(1) == "LBRACE" and self._fits("EQUAL") and self._fits("LBRACE"):
            gap = Span(self.source, self._before().end, token.end_pos or 0)
            fix = Fix("remove the `=`", (Edit(gap, ""),))
            self._report("FT030", "a block takes no `=`", self._span(token), help="write `name { … }`", fix=fix)
            self.at += 1
            return True
        return False

    def _colon(self, token: Token) -> bool:
        """`key: value`, `block: {`, and a YAML header (`sft:` alone on its line)."""
        span, word = self._span(token), self._before().text
        help = "write `key = value`"
        put: str | None = " ="
        if self._peek(1) == "LBRACE":
            help, put = f"write `{word} {{ … }}`", "" if self.source.text[span.end : span.end + 1].isspace() else " "
        elif self._peek(1) in ENDS:
            help, put = f"write `{word} {{ … }}` with its keys inside", None
        fix = (
            Fix(f"write `{put.strip()}`" if put and put.strip() else "remove it", (Edit(span, put),))
            if put is not None
            else None
        )
        self._report("FT034", "keys are set with `=`, not `:`", span, help=help, fix=fix)
        if put is None:
            self._swallow()
            return True
        if self._peek(1) != "LBRACE":
            self._supply("EQUAL", "=")
        self.at += 1
        return True

    def _bare_text(self, at: int) -> bool:
        """Repair an unquoted path or name that begins at token `at`: one message, and a missing value."""
        before = self.tokens[at - 1].type if at else ""
        span = unquoted.run_at(self.source, self.tokens[at].start_pos or 0)
        begun = at < self.at
        plausible = "/" in span.text or unquoted.is_joined(span.text) if begun else unquoted.is_path(span.text)
        if self.tokens[at].type == "STRAY":
            plausible = span.text.isalnum() or plausible
        if before not in ("EQUAL", "LPAR", "LSQB", "COMMA") or not plausible or span.end <= self._at_offset():
            return False
        inner = self.state.parser_state
        while begun and len(inner.state_stack) > 1 and (first_offset([inner.value_stack[-1]]) or 0) >= span.start:
            inner.state_stack.pop()
            inner.value_stack.pop()
        return self._without_quotes(span, str(self.tokens[at - 2]) if before == "EQUAL" and at > 1 else "")

    def _sentence(self) -> bool:
        """Repair a text of several words without quotes that begins here."""
        span = unquoted.sentence(self.source, self.tokens, self.at)
        key = str(self.tokens[self.at - 2]) if self.tokens[self.at - 1].type == "EQUAL" else ""
        return span is not None and self._without_quotes(span, key)

    def _without_quotes(self, span: Span, key: str) -> bool:
        """Report a text that needs quotes, and feed a missing value for it; False if a value does not fit."""
        if not self._fits("MISSING"):
            return False
        sink = Sink()
        unquoted.report(span, key, sink)
        for problem in sink:
            self._report(problem.code, problem.message, span, help=problem.help, fix=problem.fix)
        self._supply("MISSING")
        while self.at < len(self.tokens) and (self.tokens[self.at].start_pos or 0) < span.end:
            self.at += 1
        return True

    def _begun_as_text(self, token: Token) -> bool:
        """`s3://rows`, `a/8x7B`: the token continues a value that needs quotes."""
        first = self.at
        while first and self.tokens[first - 1].end_pos == self.tokens[first].start_pos:
            if self.tokens[first - 1].type in ("EQUAL", "LPAR", "LSQB", "COMMA", "_NL", "LBRACE"):
                break
            first -= 1
        return first < self.at and self._bare_text(first)

    def _unclosed_text(self, token: Token) -> None:
        span = self._span(token)
        shown = Span(self.source, span.start, span.start + len(span.text.split("\n")[0].rstrip()))
        self._report("FT031", "this text is never closed", shown, help="close it with the same quote")
        if self._fits("STRING"):
            self.state.feed_token(token_at("STRING", "\0", span.start, span.end, self.source))
        elif self._fits("_NL"):
            self.state.feed_token(token_at("_NL", "", span.start, span.end, self.source))
        self.at += 1

    # --- recovery

    def _report(self, code: str, message: str, span: Span, **more: Any) -> None:
        """One cause, one message: report at most once per line."""
        line = self.source.position(span.start)[0]
        if line != self.quiet_line:
            self.sink.add(Diagnostic(code, message, span, **more))
        self.quiet_line = line

    def _recover(self, token: Token) -> None:
        for attempt in (self._begun_as_text, self._stray, self._missing_value, self._missing_binder, self._two_items):
            if attempt(token):
                return
        self._unexpected(token)
        self._swallow()

    def _stray(self, token: Token) -> bool:
        if token.type not in ("STRAY", "COLON", "TILDE", "OPTIONAL", "SLASH"):
            return False
        span, text = self._span(token), str(token)
        comment = token.type == "SLASH" and self._peek(1) in ("SLASH", "STAR") and not self._fits("SLASH")
        if token.type != "STRAY" and not comment:
            return False
        if text == ";":
            last = self._peek(1) in ENDS
            fix = Fix("remove it" if last else "write `,`", (Edit(span, "" if last else ","),))
            help = "items end with the line; `,` separates items on one line"
            self._report("FT032", "`;` has no meaning here", span, help=help, fix=fix)
            if self._peek(1) not in ENDS:
                self._supply("_NL")
            self.at += 1
            return True
        help = "write `{name}` in a text to insert a value" if text in "$@" else ""
        why = f"`{text}` has no meaning here"
        if comment:
            why, help = "comments start with `#`", "write `# …`"
        elif text.isalpha():
            span, help = unquoted.name_around(span), "names have the letters a to z, digits and `_`"
            why = f"`{span.text}` cannot be a name"
        self._report("FT032", why, span, help=help)
        self._swallow()
        return True

    def _closing_brace(self, token: Token) -> bool:
        if token.type != "RBRACE" or self.braces:
            return False
        span = self._span(token)
        if not self._fits("_NL") and not self._fits("$END") and not self._fits("NAME"):
            return False
        self._report("FT038", "this `}` closes nothing", span, fix=Fix("remove it", (Edit(span, ""),)))
        self.at += 1
        return True

    def _missing_value(self, token: Token) -> bool:
        """`lr = ,`: insert a placeholder for the missing value."""
        if token.type not in ENDS or not self._fits("MISSING"):
            return False
        before = self._before()
        self._report("FT035", f"a value is missing after `{before.text}`", before)
        return self._supply("MISSING")

    def _missing_binder(self, token: Token) -> bool:
        if not self._fits("EQUAL") or self._fits("RPAR"):
            return False
        before = self._before()
        if token.type in ("STRING", "NUMBER", "TRUE", "FALSE", "NULL", "LSQB", "MINUS"):
            fix = Fix("insert `=`", (Edit(Span(self.source, before.end, before.end), " ="),))
            self._report("FT036", "`=` is missing", self._span(token), help=f"write `{before.text} = …`", fix=fix)
            return self._supply("EQUAL", "=")
        if token.type in ENDS:
            help = f"write `{before.text} = …` or `{before.text} {{ … }}`"
            last = self.tokens[max(0, self.at - 4) : self.at]
            if [token.type for token in last[::2]] == ["EQUAL", "COMMA"]:
                help = f"write `[{last[1]}, {before.text}]` for a list"
            self._report("FT036", "expected `=` or a block", before, help=help)
            self._swallow()
            return True
        return False

    def _two_items(self, token: Token) -> bool:
        """A value is complete and another item begins: insert the missing line break."""
        starts = token.type in ("NAME", "LET", "PARAM", "INCLUDE") or (
            token.type == "STRING" and self._peek(1) == "EQUAL"
        )
        if (
            not starts
            or not self._fits("_NL")
            or self._peek(1) not in ("EQUAL", "LBRACE", "DOT", "NAME", "IN", "TILDE")
        ):
            return False
        before = self._before()
        fix = Fix("insert `,`", (Edit(Span(self.source, before.end, before.end), ","),))
        help = "start a new line, or separate them with `,`"
        self._report("FT037", "two items on one line", self._span(token), help=help, fix=fix)
        return self._supply("_NL")

    def _unexpected(self, token: Token) -> None:
        expected = [TOKEN_NAMES[kind] for kind in TOKEN_NAMES if self._fits(kind)]
        names = {"$END": "end of file", "_NL": "end of line"}
        span = self._span(token) if token.type not in ("_NL", "$END") else self._before()
        help = f"expected {either(expected)}" if 0 < len(expected) <= 5 else ""
        self._report("FT030", f"unexpected {names.get(token.type, f'`{token}`')}", span, help=help)

    def _swallow(self) -> None:
        """Pop the stack to a state that accepts an item, insert an ERROR item, and skip to the end of the broken one."""
        states = lexing.parser().parser.parser._parse_table.states
        inner = self.state.parser_state
        popped: list[Any] = []
        while len(inner.state_stack) > 1 and "ERROR" not in states[inner.state_stack[-1]]:
            inner.state_stack.pop()
            popped.append(inner.value_stack.pop())
        kinds = [value.type for value in popped if isinstance(value, Token)]
        for _ in range(min(len(self.braces), kinds.count("LBRACE") - kinds.count("RBRACE"))):
            self.braces.pop()
        start = (
            first_offset(popped)
            or self._span(self.tokens[self.at] if self.at < len(self.tokens) else self._end_token()).start
        )
        self._skip()
        end = max(start, self._before().end)
        if "ERROR" in states[inner.state_stack[-1]]:
            self.state.feed_token(token_at("ERROR", "", start, end, self.source))

    def _skip(self) -> None:
        """Skip the rest of the item, including its brackets."""
        depth = 0
        while self.at < len(self.tokens):
            kind = self.tokens[self.at].type
            if depth == 0 and kind in ("_NL", "COMMA", "RBRACE"):
                return
            if kind in OPENERS:
                depth += 1
            elif kind in OPENERS.values():
                depth = max(0, depth - 1)
            self.at += 1

    # --- unclosed blocks

    def _close_blocks(self, token: Token) -> None:
        """Close the blocks that must end before this token; with `by_header` each is reported."""
        assert self.closes is not None
        reported = False
        while self.braces and self.closes(self, token):
            opened = self.braces[-1]
            if not reported:
                self.quiet_line = -1
                labels = self._outer_labels() if self.closes is by_header else ()
                self._report("FT033", "this block is never closed", self._header_span(opened), labels=labels,
                             help=CLOSE, fix=self._closing(opened))  # fmt: skip
            reported = self.closes is by_header
            if not self._fits("RBRACE"):
                at = self.at
                self._swallow()
                self.at = at
            if not self._supply("RBRACE", "}"):
                return
            self.braces.pop()
            if token.type != "RBRACE":
                self._supply("_NL")

    def _closing(self, opened: int) -> Fix | None:
        """Insert a brace on a separate line, indented like the block."""
        end = self._before().end
        indent = " " * (self.indent(opened) - 1)
        return Fix("close it here", (Edit(Span(self.source, end, end), f"\n{indent}}}"),), safe=False)

    def begins_line(self) -> bool:
        return self.at == 0 or self.tokens[self.at - 1].type == "_NL"

    def indent(self, at: int) -> int:
        """The first non-blank column (from 1) of the line of the token at `at`."""
        line = self.source.line(self.tokens[at].line or 1)
        return len(line) - len(line.lstrip(" \t\ufeff")) + 1

    def is_header(self, token: Token) -> bool:
        """Whether the token begins, in column 1, an item that is valid at file level only."""
        if token.column != 1 or token.type not in ("NAME", "LET", "PARAM", "INCLUDE"):
            return False
        if token.type != "NAME":
            return True
        kinds = [self._peek(ahead) for ahead in range(1, 12)]
        line = kinds[: kinds.index("_NL")] if "_NL" in kinds else kinds
        return "LBRACE" in line and "EQUAL" not in line[: line.index("LBRACE")]

    def _header_span(self, at: int) -> Span:
        """The span from the block's keyword to its brace, the token at `at`."""
        first, brace = at, self.tokens[at]
        while (
            first > 0
            and self.tokens[first - 1].line == brace.line
            and self.tokens[first - 1].type not in (*ENDS, "LBRACE")
        ):
            first -= 1
        return self._span(self.tokens[first]).to(self._span(brace))

    def _outer_labels(self) -> tuple[Label, ...]:
        return tuple(
            Label(self._header_span(brace), "this block is open too") for brace in self.braces[-2 : -2 - LABELS : -1]
        )

    def _finish(self, end: Token) -> Any:
        """The root, with open blocks closed; None (a tree without items) if the repairs do not terminate."""
        for _ in range(len(self.tokens) + 8):
            try:
                return self.state.feed_eof(self.tokens[-1] if self.tokens else None)
            except UnexpectedToken:
                if self._fits(
                    "RBRACE"
                ):  # the parser's stack determines what is open; `braces` only where it was opened
                    if not self.unclosed and self.braces:
                        opened = self.braces[-1]
                        self.quiet_line = -1
                        span, labels = self._header_span(opened), self._outer_labels()
                        self._report("FT033", "this block is never closed", span, labels=labels, help=CLOSE)
                    self.unclosed = bool(self.braces)
                    self._supply("RBRACE", "}")
                    if self.braces:
                        self.braces.pop()
                    continue
                if self._missing_value(end):
                    continue
                if not self._missing_binder(end):
                    self._unexpected(end)
                    self._swallow()
        return None


Closes = Callable[[Driver, Token], bool]
"""Whether the innermost open block must end before a token; used only for files with an unclosed block."""


def by_header(driver: Driver, token: Token) -> bool:
    """A header in column 1 ends all blocks."""
    return driver.is_header(token)


def by_indent(driver: Driver, token: Token) -> bool:
    """A line that is not indented further than the block's own ends it; a brace there closes it."""
    if not driver.begins_line():
        return False
    column, opened = token.column or 1, driver.indent(driver.braces[-1])
    return column < opened if token.type == "RBRACE" else column <= opened


def read(source: Source, tokens: list[Token], sink: Sink) -> Any:
    """The root of Lark's tree. If a block is never closed, parse again and close blocks by indentation, or by headers; use the
    attempt with the fewest diagnostics."""
    first = Driver(source, tokens)
    root = first.run()
    problems = first.sink
    if first.unclosed:
        retries = [Driver(source, tokens, closes) for closes in (by_indent, by_header)]
        roots = [retry.run() for retry in retries]
        best = min(range(len(retries)), key=lambda at: len(retries[at].sink))
        root, problems = roots[best], retries[best].sink
    for problem in problems:
        sink.add(problem)
    return root
