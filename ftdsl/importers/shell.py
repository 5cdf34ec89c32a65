"""A shell script or command line as simple commands, each word with its span. Read, never executed.

Variables, arrays, arithmetic, functions, loops over literal lists and tests of known texts are followed. Of what only
running could tell (`$(…)`, `$1`, other loops) the words say so (`Word.known`), and both ways of a branch are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from ftdsl.diagnostics import Sink
from ftdsl.importers import bash_control
from ftdsl.importers.bash_control import COMMAND, SBATCH, branches, decided, extended, inner_text, let, slurm, spine
from ftdsl.importers.bash_syntax import Syntax, TooDeepError
from ftdsl.importers.bash_words import CLOSE, MAX_WORD, OPEN, Expander, Value, Word, printed, variable_name
from ftdsl.importers.draft import Note
from ftdsl.record import frozen, mutable, replace
from ftdsl.source import Source, Span

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_SCRIPT = 1 << 20
"""Characters of a script that is read."""
MAX_STEPS = 20_000
"""Commands, assignments and rounds of loops that are followed."""
MAX_ROUNDS = 64
_DEPTH = 100


@frozen
class Simple:
    """One command: its words, the environment it is started with (exported before, or put before it), and in which
    round of which loops it stands (`(variable, round)`, the outermost first). cut: where it ends before its author meant it
    to."""

    words: tuple[Word, ...]
    env: Mapping[str, Word]
    loops: tuple[tuple[str, int], ...] = ()
    cut: Span | None = None


@mutable
class Script:
    """What was read: commands in order, files that it writes (`cat <<EOF > x.yaml`), variables that it uses itself, what its
    `#SBATCH` lines ask for, notes on what was not understood."""

    commands: list[Simple] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    listed: Callable[[str], Sequence[str]] | None = None


def read(source: Source, sink: Sink, listed: Callable[[str], Sequence[str]] | None = None) -> Script:
    """Every simple command of a script; nothing, and FT050 or FT065 in the sink, of one that is too large or too deep.

    listed: the files that a pattern names (`conf/*.yaml`), for loops over them.
    """
    script = Script(listed=listed)
    if len(source.text) > MAX_SCRIPT:
        sink.error("FT050", f"it is larger than {MAX_SCRIPT >> 20} MiB, which no script is", Span(source, 0, 0))
        return script
    script.headers = dict(SBATCH.findall(source.text[:20_000]))
    span = Span(source, 0, 0)
    variables: dict[str, Value] = {name: (Word(value, span),) for name, value in slurm(script.headers).items()}
    try:
        _Reader(Syntax(source), script, variables, {}).all()
    except TooDeepError:
        sink.error("FT065", f"`{source.name}` is nested too deeply to be read", Span(source, 0, 0))
    return script


class _Reader:
    """Follows the commands of one text; texts inside it (`bash -c "…"`) get a reader of their own."""

    def __init__(
        self,
        syntax: Syntax,
        script: Script,
        variables: dict[str, Value],
        exported: dict[str, Word],
        loops: tuple[tuple[str, int], ...] = (),
        depth: int = 0,
    ) -> None:
        self.syntax, self.script, self.variables, self.exported = syntax, script, variables, exported
        self.loops, self.depth = loops, depth
        self.functions: dict[str, Node] = {}
        self.expand = Expander(syntax, variables, None)
        self.expand.used = script.used
        self.rest: list[tuple[int, int]] = []
        self.steps = self.undecided = 0  # the second: branches around that only a shell could decide
        self.ended = False

    def all(self) -> None:
        self._each(self.syntax.root.children)
        for start, end in self.rest:
            self._part(start, end)

    def _each(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if self.ended:
                return
            self._run(node)

    def _run(self, node: Node) -> None:
        self.steps += 1
        if self.depth > _DEPTH or self.steps > MAX_STEPS or len(self.script.commands) > 2000:
            if not self.ended:
                self._note(node, "what follows is not read: more commands within one another than a person writes")
            self.ended = True
            return
        self.depth += 1
        handler = _HANDLERS.get(node.type)
        if handler is not None:
            handler(self, node)
        elif node.type == "list":
            for child in spine(node):
                self._run(child)
        elif node.is_named and node.type not in _IDLE:
            self._each(node.children)
        self.depth -= 1

    def _note(self, node: Node, text: str) -> None:
        if word := self.syntax.of(node).strip().split("\n")[0][:40]:
            self.script.notes.append(Note(word, text, self.syntax.span(node)))

    # --- variables

    def _assignment(self, node: Node) -> None:
        assigned = self._assigned(node)
        if assigned is not None:
            name, value = assigned
            self.variables[name] = value
            if name in self.exported:
                self.exported[name] = value[0] if value else Word("", self.syntax.span(node))

    def _assigned(self, node: Node) -> tuple[str, Value] | None:
        """`A=x`, `A+=x`, `A=( … )`; None where an item of an array is set."""
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None or name.type != "variable_name":
            return None
        key = self.syntax.of(name)
        more = any(child.type == "+=" for child in node.children)
        before = self.variables.get(key, ()) if more else ()
        if value is None:
            return key, (Word("", self.syntax.span(node)),)
        if value.type == "array":
            items = [
                word for child in value.named_children if child.type != "comment" for word in self.expand.words(child)
            ]
            return key, (*before, *items)[: MAX_ROUNDS * 64]
        word = self.expand.word(value)
        if before:
            text, known = before[0].text + word.text, before[0].known and word.known
            marked = "" if known else (before[0].marked or before[0].text) + (word.marked or word.text)
            word = Word(text[:MAX_WORD], word.span, known and len(text) <= MAX_WORD, marked[:MAX_WORD])
        if not word.known and re.fullmatch(f"{OPEN}([a-z]\\w*){CLOSE}", word.marked):
            word = Word(
                word.text, word.span, False, f"{OPEN}{variable_name(key)}{CLOSE}"
            )  # known by what it is kept in
        return key, (word,)

    def _declaration(self, node: Node) -> None:
        how = self.syntax.of(node.children[0])
        exports = how == "export" or any(self.syntax.of(child) == "-x" for child in node.named_children)
        for child in node.named_children:
            if child.type == "variable_assignment":
                assigned = self._assigned(child)
                if assigned is not None:
                    name, value = assigned
                    self.variables[name] = value
                    if exports:
                        self.exported[name] = value[0] if value else Word("", self.syntax.span(child))
            elif exports:
                for word in self.expand.words(child):
                    self._export(word)

    def _export(self, word: Word) -> None:
        name, equals, value = word.text.partition("=")
        if equals:
            self.variables[name] = (Word(value, word.span, word.known, word.marked.partition("=")[2]),)
        if self.variables.get(name):
            self.exported[name] = self.variables[name][0]

    def _unset(self, node: Node) -> None:
        for child in node.named_children:
            self.exported.pop(self.syntax.of(child), None)
            self.variables.pop(self.syntax.of(child), None)

    # --- commands

    def _command(self, node: Node, redirects: Sequence[Node] = ()) -> None:
        env = dict(self.exported)
        words: list[Word] = []
        for child in node.children:
            if child.type == "variable_assignment":
                if (assigned := self._assigned(child)) is not None:
                    env[assigned[0]] = assigned[1][0] if assigned[1] else Word("", self.syntax.span(child))
            elif child.type == "ERROR":
                self._open_quote(child, words)
            elif child.is_named and child.type not in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
                words += self.expand.words(child)
        if not words:
            return
        name = words[0].text
        if name in self.functions and words[0].known:
            self._call(self.functions[name], words[1:])
        elif (inner := inner_text(words)) is not None:
            self._text(inner, inner.span)
        elif name == "export":
            for word in words[1:]:
                self._export(word)
        elif name == "let":
            self.variables.update(let(words[1:], self.expand))
        elif name in ("exit", "return") and not self.undecided:
            self.ended = True
        elif redirects and name in ("cat", "tee", "bash", "sh", "sbatch", "srun", "echo", "printf"):
            self._written(words, redirects)
        else:
            self.script.commands.append(Simple(tuple(words), env, self.loops, self._cut(node)))

    def _cut(self, node: Node) -> Span | None:
        """Where a command ends that a comment, or a blank behind the backslash, cuts off from its next lines."""
        end = self.syntax.at(node.end_byte)
        match = _CUT.match(self.syntax.text, end)
        if match is None or self.syntax.within is not None:
            return None
        return Span(self.syntax.source, match.start(1), match.end() - 1)

    def _error(self, node: Node) -> None:
        """What is no bash, line by line: a quote that is never closed ends with its line, and what follows is read."""
        text = self.syntax.of(node)
        start = self.syntax.at(node.end_byte) - len(text.lstrip())
        if text.lstrip()[:1] in ("'", '"') and self.script.commands and node.prev_sibling is not None:
            words = list(self.script.commands[-1].words)
            self._open_quote(node, words)
            self.script.commands[-1] = replace(self.script.commands[-1], words=tuple(words))
            return
        lines = [(match.start(), match.end()) for match in _LINE.finditer(text.lstrip())]
        if self.depth > 20 or len(lines) < 2:
            self._note(node, "cannot be read as bash")
            self._each(node.children if self.depth <= 20 else ())
            return
        for first, last in lines:
            self._part(start + first, start + last)

    def _part(self, start: int, end: int) -> None:
        """Commands in a part of the text."""
        if self.syntax.within is not None:
            return
        try:
            inner = self._reader(Syntax(self.syntax.source, None, self.syntax.start + start, self.syntax.start + end))
        except TooDeepError:
            return
        inner.all()
        self.steps = inner.steps

    def _open_quote(self, node: Node, words: list[Word]) -> None:
        """`a 'never closed`: the text up to the end of its line is a word; lines behind it are read."""
        text = self.syntax.of(node).lstrip()
        start = self.syntax.at(node.end_byte) - len(text)
        if text[:1] not in ("'", '"'):
            self._note(node, "cannot be read as bash")
            return
        line, _, rest = text.partition("\n")
        first = self.syntax.start + start
        span = self.syntax.within or Span(self.syntax.source, first, first + len(line))
        words.append(Word(line[1:], span, "$" not in line or text[0] == "'"))
        self.script.notes.append(Note(text[0], "this quote is never closed", span))
        if rest:
            self.rest.append((start + len(line) + 1, start + len(text)))

    def _reader(self, syntax: Syntax) -> _Reader:
        inner = _Reader(syntax, self.script, self.variables, self.exported, self.loops, self.depth + 1)
        inner.steps, inner.undecided = self.steps, self.undecided
        inner.expand.arguments = self.expand.arguments
        return inner

    def _redirected(self, node: Node) -> None:
        body = node.child_by_field_name("body")
        redirects = [child for child in node.named_children if child.type in ("heredoc_redirect", "file_redirect",
                                                                              "herestring_redirect")]  # fmt: skip
        if body is not None and body.type == "command":
            self._command(body, redirects)
        elif body is not None:
            self._run(body)
        elif redirects:
            self._written([Word("cat", self.syntax.span(node))], redirects)
        for redirect in redirects:
            for child in redirect.named_children:
                # `cat <<E | tee x`, `cat <<E && y`
                if child.type in ("pipeline", "list", "command", "redirected_statement"):
                    self._run(child)

    def _written(self, words: Sequence[Word], redirects: Sequence[Node]) -> None:
        """A here-document becomes the file it is written to, or commands where a shell reads it."""
        here = next((redirect for redirect in redirects if redirect.type == "heredoc_redirect"), None)
        inside = list(here.named_children) if here is not None else []
        target = ""
        append = False
        for redirect in [*redirects, *inside]:
            destination = redirect.child_by_field_name("destination") if redirect.type == "file_redirect" else None
            if destination is not None and self.syntax.of(redirect).lstrip("0123456789").startswith(">"):
                target, append = self.expand.word(destination).text, ">>" in self.syntax.of(redirect)[:4]
        tee = [word.text for word in words[1:] if not word.text.startswith("-")] if words[0].text == "tee" else []
        for child in inside:
            if child.type == "pipeline" or (child.type == "command" and words[0].text == "cat"):
                text = self.syntax.of(child).split()
                tee += [text[at + 1] for at, word in enumerate(text[:-1]) if word == "tee"]
        if here is None:
            if words[0].text in ("echo", "printf") and target.endswith((".yaml", ".yml", ".json")):
                self._file(target, printed(words), append)
            elif words[0].text != "cat":
                self.script.commands.append(Simple(tuple(words), dict(self.exported), self.loops))
            return
        body = self._body(here)
        for path in filter(None, (target, *tee)):
            self._file(path, body.text, append)
        if words[0].text in ("bash", "sh", "sbatch", "srun") and not target:
            self._text(body, body.span)
        elif not target and not tee:
            self.script.commands.append(Simple(tuple(words), dict(self.exported), self.loops))

    def _file(self, path: str, content: str, append: bool) -> None:
        if len(self.script.files) < 256 and sum(map(len, self.script.files.values())) + len(content) <= 4 * MAX_SCRIPT:
            self.script.files[path] = (self.script.files.get(path, "") if append else "") + content

    def _body(self, node: Node) -> Word:
        """The text of a here-document, variables put in unless its mark is quoted."""
        start = next((child for child in node.children if child.type == "heredoc_start"), None)
        body = next((child for child in node.children if child.type == "heredoc_body"), None)
        end = next((child for child in node.children if child.type == "heredoc_end"), None)
        if start is None or body is None:
            return Word("", self.syntax.span(node))
        mark, dash = self.syntax.of(start), self.syntax.of(node).startswith("<<-")
        first = min(body.start_byte, (end or body).start_byte)
        line = self.syntax.text.rfind("\n", 0, self.syntax.at(first)) + 1
        first -= len(self.syntax.text[line : self.syntax.at(first)].encode("utf-8", "surrogatepass"))
        last = end.start_byte if end is not None else body.end_byte
        span = self.syntax.span(body)
        if re.search(r"['\"\\]", mark):
            word = Word(self.syntax.between(first, last), span)
        else:
            word = self.expand.text_of(first, last, body.named_children, span)
        text = re.sub(r"^\t+", "", word.text, flags=re.M) if dash else word.text
        return Word(re.sub(r"[ \t]+\Z", "", text), span, word.known, word.marked)

    def _text(self, word: Word, span: Span) -> None:
        """Commands in a text."""
        try:
            syntax = Syntax(Source(span.source.name, word.text), self.syntax.within or span)
        except TooDeepError:
            self.script.notes.append(Note(word.text[:40], "is nested too deeply to be read", span))
            return
        inner = self._reader(syntax)
        with bash_control.without_itself(self.variables):
            inner.all()
        self.steps = inner.steps

    def _function(self, node: Node) -> None:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is not None and body is not None:
            self.functions[self.syntax.of(name)] = body

    def _call(self, body: Node, words: Sequence[Word]) -> None:
        before, self.expand.arguments = self.expand.arguments, tuple(words)
        ended = self.ended
        self._run(body)
        self.ended = ended if self.steps <= MAX_STEPS else self.ended
        self.expand.arguments = before

    # --- what decides

    def _for(self, node: Node) -> None:
        name, body = node.child_by_field_name("variable"), node.child_by_field_name("body")
        if name is None or body is None:
            return
        key = self.syntax.of(name)
        values = [word for child in node.children_by_field_name("value") for word in self.expand.words(child)]
        listed = any(child.type == "in" for child in node.children)
        if not listed and self.expand.arguments is not None:
            values = list(self.expand.arguments)
        values = [part for word in values for part in self._files(word)]
        glob = any(re.search(r"[*?\[]", word.text) for word in values)
        if not values or glob or len(values) > MAX_ROUNDS or not all(word.known for word in values):
            self._note(node, "is a loop whose values are known only when the script runs: one round of it is read")
            self.variables[key] = (
                Word(f"${key}", self.syntax.span(name), False, f"{OPEN}{variable_name(key)}{CLOSE}"),
            )
            self._branch([body])
            return
        loops = self.loops
        for at, value in enumerate(values):
            if self.ended:
                break
            self.variables[key] = (value,)
            self.loops = (*loops, (f"{key}@{node.start_byte}", at))
            self._run(body)
        self.loops = loops

    def _files(self, word: Word) -> list[Word]:
        """The files that a pattern names; the word itself for what is no pattern, or names none."""
        listed = self.script.listed if word.known and re.search(r"[*?\[]", word.text) else None
        return [Word(name, word.span) for name in (listed(word.text) if listed else ())] or [word]

    def _loop(self, node: Node) -> None:
        """`while`, `for ((…))`: one round, with its variables not known; a loop over the script's own arguments has none."""
        head = self.syntax.of(node).partition("\n")[0]
        if node.type == "while_statement" and re.search(r"\$#|\$\{#|getopts|\"\$1\"", head.partition("do")[0]):
            self.variables |= bash_control.asked_for(self.syntax.of(node), self.variables, self.syntax.span(node))
            return
        for name in set(re.findall(r"[A-Za-z_]\w*(?=\+\+|--|\+=|=)", self.syntax.of(node).partition("do")[0])):
            self.variables[name] = (Word(f"${name}", self.syntax.span(node), False, f"{OPEN}{name}{CLOSE}"),)
        condition = node.child_by_field_name("condition") if node.type == "while_statement" else None
        if condition is not None and condition.type != "test_command":
            before = len(self.script.commands)
            self._branch([condition])  # `until llamafactory-cli train …; do sleep 5; done`
            if len(self.script.commands) > before:
                return
        self._note(node, "is a loop whose rounds are known only when the script runs: one of them is read")
        if (body := node.child_by_field_name("body")) is not None:
            self._branch([body])

    def _branch(self, nodes: Sequence[Node]) -> None:
        self.undecided += 1
        self._each(nodes)
        self.undecided -= 1

    def _if(self, node: Node) -> None:
        """The branch that is taken, where the test is of known texts; else each, and what they set otherwise is not known."""
        ways = list(branches(node))
        self._branch([test for test, _ in ways if test and COMMAND.search(f"{self.syntax.of(test)} ")])
        before = dict(self.variables)
        ends: list[dict[str, Value]] = []
        for test, body in ways:
            holds = decided(test, self.expand) if test is not None else True
            if holds is False:
                continue
            if holds and not ends:
                self._each(body)
                return
            self.variables.clear()
            self.variables.update(before)
            self._branch(body)
            ends.append(dict(self.variables))
            if holds:
                break
        else:
            ends.append(before)
        self._merged(ends, node)

    def _case(self, node: Node) -> None:
        value = node.child_by_field_name("value")
        word = self.expand.word(value) if value is not None else None
        before, ends = dict(self.variables), list[dict[str, Value]]()
        for item in (child for child in node.named_children if child.type == "case_item"):
            patterns = [self.syntax.of(pattern).strip("\"'") for pattern in item.children_by_field_name("value")]
            body = [child for child in item.named_children if child not in item.children_by_field_name("value")]
            if word is not None and word.known and all(re.fullmatch(r"[\w.-]+|\*", pattern) for pattern in patterns):
                if word.text in patterns or "*" in patterns:
                    self._each(body)
                    return
                continue
            self.variables.clear()
            self.variables.update(before)
            self._branch(body)
            ends.append(dict(self.variables))
        self._merged([*ends, before], node)

    def _merged(self, ends: Sequence[dict[str, Value]], node: Node) -> None:
        names = dict.fromkeys(name for end in ends for name in end)
        self.variables.clear()
        for name in names:
            values = [end[name] for end in ends if name in end]
            texts = {tuple(word.text for word in value) for value in values}
            if len(texts) == 1 and values:
                self.variables[name] = values[0]
            else:
                self.variables[name] = extended(
                    values, Word(f"${name}", self.syntax.span(node), False, f"{OPEN}{name}{CLOSE}")
                )
                if name in self.exported:
                    self.exported[name] = self.variables[name][0]


_CUT = re.compile(r"(?:[ \t]*\\\n)*[ \t]*(#[^\n]*|\\[ \t]+(?=\n))(?:\n[ \t]*#[^\n]*)*\n[ \t]*-{1,2}[A-Za-z]")
_LINE = re.compile(r"(?:[^\n\\]|\\.)+", re.S)
_IDLE = ("comment", "word", "string", "test_command", "variable_name", "raw_string", "number")
_HANDLERS = {
    "command": _Reader._command, "redirected_statement": _Reader._redirected, "variable_assignment": _Reader._assignment,
    "declaration_command": _Reader._declaration, "unset_command": _Reader._unset, "for_statement": _Reader._for,
    "c_style_for_statement": _Reader._loop, "while_statement": _Reader._loop, "if_statement": _Reader._if,
    "case_statement": _Reader._case, "function_definition": _Reader._function, "ERROR": _Reader._error,
}  # fmt: skip
