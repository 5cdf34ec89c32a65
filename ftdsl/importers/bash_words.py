"""Bash words after expansion: quotes removed, variables substituted, split at blanks. Nothing is executed."""

from __future__ import annotations

import ast
import operator
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, Any, TypeAlias

from ftdsl.importers.bash_syntax import Syntax
from ftdsl.record import frozen, replace
from ftdsl.source import Span

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_WORD = 128 << 10
"""Characters of a word; the most that Linux takes as one argument."""

MAX_FIELDS = 10_000
MAX_RANGE = 256
"""Numbers of one `{1..n}`."""
OPEN, CLOSE = "\ue000", "\ue001"
"""Around the name of a variable whose value is known only to a running shell, in `Word.marked`."""


@frozen
class Word:
    """One word, quotes removed and variables substituted.

    known: False where part of it only a shell could tell; `text` shows that part as it is written. marked: the text with
    such a part as OPEN + name + CLOSE ("" when all is known).
    """

    text: str
    span: Span
    known: bool = True
    marked: str = ""

    @property
    def names(self) -> list[str]:
        """The variables whose values are known only to a running shell."""
        return re.findall(f"{OPEN}(\\w+){CLOSE}", self.marked)


Value: TypeAlias = tuple[Word, ...]
"""What a variable holds: one word, or the items of an array."""


@frozen
class _Piece:
    """A part of a word. split: blanks in it separate words; fields: further words that follow (`"${A[@]}"`)."""

    text: str
    known: bool = True
    marked: str = ""
    split: bool = False
    fields: Sequence[Word] | None = None


def variable_name(text: str) -> str:
    """A name for what is written `$1`, `$(date +%s)`: letters, digits and `_`."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    if name.isdigit():
        return f"arg{name}"
    return name if name and name[0].isalpha() else {"@": "args", "*": "args"}.get(text, f"value{name}")


def shown(marked: str) -> str:
    """A marked text with `$name` for what is not known."""
    return re.sub(f"{OPEN}(\\w+){CLOSE}", r"$\1", marked)


class Expander:
    """Expands words of one syntax tree. `variables` may change between two calls."""

    def __init__(self, syntax: Syntax, variables: Mapping[str, Value], arguments: Sequence[Word] | None) -> None:
        self.syntax, self.variables, self.arguments = syntax, variables, arguments
        self.script = syntax.source.name
        self.used: set[str] = set()

    def words(self, node: Node) -> list[Word]:
        """The words one argument becomes; none for an empty variable without quotes."""
        span = self.syntax.span(node)
        out: list[Word] = []
        current: list[_Piece] = []
        started = False

        def end() -> None:
            nonlocal current, started
            if started:
                out.append(_joined(current, span))
            current, started = [], False

        for piece in self._pieces(node, False):
            if piece.fields is not None:
                for at, field in enumerate(piece.fields):
                    if at:
                        end()
                    current.append(_Piece(field.text, field.known, field.marked))
                    started = True
            elif piece.split and re.search(r"[ \t\n]", piece.marked or piece.text):
                for at, part in enumerate(re.split(r"[ \t\n]+", piece.marked or piece.text)):
                    if at:
                        end()
                    if part:
                        known = OPEN not in part
                        current.append(_Piece(part if known else shown(part), known, "" if known else part))
                        started = True
            else:
                current.append(piece)
                started = started or bool(piece.text) or not piece.split
            if len(out) > MAX_FIELDS:
                return out
        end()
        return out

    def word(self, node: Node) -> Word:
        """The one word an assignment or a text in quotes becomes: nothing is split."""
        return _joined(list(self._pieces(node, True)), self.syntax.span(node))

    def text_of(self, start: int, end: int, nodes: Sequence[Node], span: Span) -> Word:
        """A text in which `$` means something, between two bytes (a here-document)."""
        return _joined(list(self._between(start, end, nodes)), span)

    # --- pieces

    def _pieces(self, node: Node, quoted: bool) -> Iterator[_Piece]:
        text = self.syntax.of(node)
        match node.type:
            case "raw_string":
                yield _Piece(text[1:-1])
            case "ansi_c_string":
                yield _Piece(_ansi(text[2:-1]))
            case "string":
                closed = len(text) > 1 and text.endswith('"')
                yield _Piece("")
                yield from self._between(node.start_byte + 1, node.end_byte - closed, node.named_children)
            case "concatenation" | "translated_string" | "command_name":
                for child in node.named_children:
                    yield from self._pieces(child, quoted)
            case "simple_expansion":
                yield from self._variable(text[1:], "", quoted, node)
            case "expansion" if not text.startswith("${"):  # see bash_syntax
                yield from self._variable(text[1:], "", quoted, node)
            case "expansion":
                yield from self._expansion(text, node, quoted)
            case "arithmetic_expansion":
                result = self.arithmetic(text.removeprefix("$((").removeprefix("$[").rstrip(")]"))
                yield _Piece(str(result)) if result is not None else self._unknown(text, "computed")
            case "command_substitution":
                yield from self._substitution(text, node, quoted)
            case "brace_expression":
                yield self._braces(text, node)
            case "process_substitution":
                yield self._unknown(text, "file")
            case _:
                yield _Piece(re.sub(r"\\(\n|.)", lambda match: "" if match[1] == "\n" else match[1], text, flags=re.S))

    def _between(self, start: int, end: int, nodes: Sequence[Node]) -> Iterator[_Piece]:
        """Text in quotes: what is between the expansions is itself."""
        at = start
        for child in nodes:
            if child.type not in _EXPANSIONS or child.start_byte < at:
                continue
            yield _Piece(_unescaped(self.syntax.between(at, child.start_byte)))
            yield from self._pieces(child, True)
            at = child.end_byte
        yield _Piece(_unescaped(self.syntax.between(at, end)))

    def _unknown(self, text: str, name: str) -> _Piece:
        return _Piece(text, False, f"{OPEN}{variable_name(name)}{CLOSE}")

    def _value(self, name: str) -> Value | None:
        self.used.add(name)
        if name in self.variables:
            return self.variables[name]
        if self.arguments is not None and name.isdigit() and 0 < int(name[:6]) <= len(self.arguments):
            return (self.arguments[int(name) - 1],)
        if self.arguments is not None and name in ("@", "*"):
            return tuple(self.arguments)
        if name in ("0", "BASH_SOURCE"):
            return (Word(self.script, self.syntax.span(self.syntax.root)),)
        return (Word(".", self.syntax.span(self.syntax.root)),) if name == "PWD" else None

    def _variable(self, name: str, index: str, quoted: bool, node: Node) -> Iterator[_Piece]:
        value = self._value(name)
        if value is None:
            yield self._unknown(self.syntax.of(node), name)
        elif index in ("@", "*") or name in ("@", "*"):
            if quoted and "@" in (index, name):
                yield _Piece("", fields=value)
            else:
                for at, item in enumerate(value):
                    yield _Piece(
                        (" " if at else "") + item.text, item.known, item.marked and f" {item.marked}", not quoted
                    )
        else:
            at = int(index) if index.lstrip("-").isdigit() and len(index) < 6 else 0
            exists = -len(value) <= at < len(value)
            only = value[at] if exists else Word("", self.syntax.span(node))
            yield _Piece(only.text, only.known, only.marked, not quoted)

    def _expansion(self, text: str, node: Node, quoted: bool) -> Iterator[_Piece]:
        match = _BRACED.fullmatch(text)
        if match is None:
            yield self._unknown(text, re.sub(r"\W.*", "", text[2:], flags=re.S) or "value")
            return
        length, name, index, op, rest = match[1], match[2], match[3] or "", match[4] or "", match[5] or ""
        value = self._value(name)
        if length:
            known = value is not None and all(word.known for word in value)
            count = (
                len(value or ()) if index in ("@", "*") else len((value or (Word("", self.syntax.span(node)),))[0].text)
            )
            yield _Piece(str(count)) if known else self._unknown(text, name)
        elif not op:
            yield from self._variable(name, index, quoted, node)
        elif op in (":-", "-", ":=", "=", ":?", "?"):
            empty = value is None or (op[0] == ":" and not any(word.text for word in value))
            empty = empty or (op in (":-", "-", ":=", "=") and all(not word.known for word in value or ()))
            if not empty:
                yield from self._variable(name, index, quoted, node)
            elif op in (":?", "?"):
                yield self._unknown(text, name)
            else:
                yield from self._rest(node, op, quoted)
        elif op in (":+", "+"):
            if value is not None and any(word.text for word in value):
                yield from self._rest(node, op, quoted)
        else:
            changed = (
                None if value is None or len(value) != 1 or not value[0].known else _changed(value[0].text, op, rest)
            )
            yield self._unknown(text, name) if changed is None else _Piece(changed, split=not quoted)

    def _rest(self, node: Node, op: str, quoted: bool) -> Iterator[_Piece]:
        """What follows the operator of `${A:-…}`."""
        at = next(
            (child.end_byte for child in node.children if not child.is_named and self.syntax.of(child) == op), None
        )
        end = node.end_byte - 1
        if at is None:
            return
        inner = [child for child in node.named_children if child.start_byte >= at]
        plain = len(inner) == 1 and (inner[0].start_byte, inner[0].end_byte) == (at, end)
        yield from self._pieces(inner[0], quoted) if plain else self._between(at, end, inner)

    def _substitution(self, text: str, node: Node, quoted: bool) -> Iterator[_Piece]:
        """`$(basename "$X")` and other commands that only read their arguments; the result of others is unknown."""
        commands = [child for child in node.named_children if child.type == "command"]
        chain = [child for child in node.named_children if child.type == "list"]
        if len(chain) == 1:
            commands = [child for child in chain[0].named_children if child.type == "command"]
        words = [[word for part in command.named_children for word in self.words(part)] for command in commands]
        names = [some[0].text for some in words if some]
        if names == ["cd", "pwd"] and len(words[0]) > 1:  # `$(cd "$(dirname "$0")" && pwd)`
            words = [[Word("echo", words[0][0].span), words[0][-1]]]
        result = _computed(words[0]) if len(words) == 1 and words[0] else None
        yield (
            self._unknown(text, names[0] if names else "value") if result is None else _Piece(result, split=not quoted)
        )

    def _braces(self, text: str, node: Node) -> _Piece:
        match = re.fullmatch(r"\{(\d{1,4})\.\.(\d{1,4})\}", text)
        if match is None:
            return _Piece(text)
        first, last = int(match[1]), int(match[2])
        if abs(first - last) >= MAX_RANGE:
            return _Piece(text)
        some = range(first, last + 1) if first <= last else range(first, last - 1, -1)
        span = self.syntax.span(node)
        return _Piece("", fields=[Word(str(number), span) for number in some])

    def arithmetic(self, text: str) -> int | None:
        """The value of `64 / $WORLD / 2`; None where a part is not known."""

        def put(match: re.Match[str]) -> str:
            value = self._value(match[1] or match[2])
            return value[0].text if value and value[0].known else "?"

        text = re.sub(r"\$?\{?\b([A-Za-z_]\w*)\}?|\$(\d)", put, text, flags=re.ASCII)
        return computed(text)


_EXPANSIONS = ("simple_expansion", "expansion", "command_substitution", "arithmetic_expansion")
_BRACED = re.compile(
    r"\$\{(#?)([A-Za-z_]\w*|\d+|[@*?$!#-])(?:\[([^\]\n]{0,80})\])?"
    r"(?:(:[-=+?]|[-=+?]|##?|%%?|//?|\^\^?|,,?|:(?=[ \d]))(.*))?\}",
    re.S | re.ASCII,
)


def _joined(pieces: Sequence[_Piece], span: Span) -> Word:
    """One word of its pieces."""
    flat = [_Piece(part.text, part.known, part.marked) for piece in pieces for part in piece.fields or (piece,)]
    if any(piece.fields is not None for piece in pieces):
        flat = [replace(part, text=f"{' ' if at else ''}{part.text}") for at, part in enumerate(flat)]
    text = "".join(piece.text for piece in flat)
    known = all(piece.known for piece in flat)
    marked = "" if known else "".join(piece.text if piece.known else piece.marked or piece.text for piece in flat)
    if len(text) > MAX_WORD or len(marked) > MAX_WORD:  # variables of variables of variables
        return Word(text[:MAX_WORD], span, False, f"{OPEN}value{CLOSE}")
    return Word(text, span, known, marked)


def _unescaped(text: str) -> str:
    """Between double quotes a backslash counts before these characters only."""
    return re.sub(r'\\([\\"$`\n])', lambda match: "" if match[1] == "\n" else match[1], text)


def _ansi(text: str) -> str:
    known = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"', "r": "\r"}
    return re.sub(r"\\(.)", lambda match: known.get(match[1], match[0]), text, flags=re.S)


def printed(words: Sequence[Word]) -> str:
    """What `echo` or `printf` writes: escapes with `-e` or in a format, `%s` one after the other."""
    name, given = words[0].text, [word.marked or word.text for word in words[1:]]
    if name == "echo":
        flags = "".join(takewhile(re.compile(r"-[neE]+").fullmatch, given))
        text = " ".join(dropwhile(re.compile(r"-[neE]+").fullmatch, given))
        return (_ansi(text) if "e" in flags else text) + "\n" * ("n" not in flags)
    if not given:
        return ""
    form, rest = _ansi(given[0]), given[1:]
    fields = len(re.findall(r"%[sdfg]", form))
    texts: list[str] = []
    while not texts or (rest and fields):
        some, rest = iter(rest[:fields]), rest[fields:]
        texts.append(re.sub(r"%[sdfg]", lambda _: next(some, ""), form).replace("%%", "%"))  # noqa: B023 (used at once)
    return "".join(texts)[:MAX_WORD]


def _changed(text: str, op: str, rest: str) -> str | None:
    """`${A%.json}`, `${A##*/}`, `${A/x/y}`, `${A:0:4}`, `${A,,}`, of plain patterns; None for others."""
    if op in (",", ",,", "^", "^^"):
        return {
            ",": text[:1].lower() + text[1:],
            ",,": text.lower(),
            "^": text[:1].upper() + text[1:],
            "^^": text.upper(),
        }[op]
    if op == ":":
        numbers = re.fullmatch(r" ?(-?\d{1,6})(?::(-?\d{1,6}))?", rest)
        return None if numbers is None else text[int(numbers[1]) :][: int(numbers[2]) if numbers[2] else None]
    if "$" in rest or "[" in rest or len(text) > 4096:
        return None
    if op in ("/", "//"):
        pattern, _, instead = rest.partition("/")
        return None if "*" in pattern or "?" in pattern else text.replace(pattern, instead, 1 if op == "/" else -1)
    cut = _CUTS[op]
    for size in cut(len(text)):
        part = text[:size] if op[0] == "#" else text[len(text) - size :]
        if _fits(part, rest):
            return text[size:] if op[0] == "#" else text[: len(text) - size]
    return text


_CUTS: Mapping[str, Callable[[int], Iterator[int] | range]] = {
    "#": lambda size: range(size + 1), "##": lambda size: range(size, -1, -1),
    "%": lambda size: range(size + 1), "%%": lambda size: range(size, -1, -1),
}  # fmt: skip


def _fits(text: str, pattern: str) -> bool:
    """A pattern of letters, `?` and at most two `*`, which takes time that grows with the text alone."""
    if pattern.count("*") > 2:
        return False
    parts = [re.escape(part).replace(r"\?", ".") for part in pattern.split("*")]
    return re.fullmatch(".*".join(parts), text, re.S) is not None


def _computed(words: Sequence[Word]) -> str | None:
    """What a command prints that only reads its arguments."""
    name, given = words[0].text, [word.text for word in words[1:]]
    if not all(word.known for word in words):
        return None
    if name == "basename" and given:
        base = posixpath.basename(given[0].rstrip("/"))
        return base.removesuffix(given[1]) if len(given) > 1 and base != given[1] else base
    if name == "dirname" and len(given) == 1:
        return posixpath.dirname(given[0].rstrip("/")) or "."
    if name in ("realpath", "readlink") and given:
        return given[-1]
    if (name == "which" and len(given) == 1) or (name == "command" and given[:1] == ["-v"] and len(given) == 2):
        return given[-1]  # where a program is: its name is what matters
    if name == "pwd" and not given:
        return "."
    if name == "expr" and len(given) > 2 and (result := computed(" ".join(given))) is not None:
        return str(result)
    if name == "echo" and not any(argument.startswith("-") for argument in given[:1]):
        return " ".join(given)
    if name == "seq" and 1 <= len(given) <= 3 and all(re.fullmatch(r"\d{1,4}", argument) for argument in given):
        numbers = list(map(int, given))
        low, step = numbers[0] if len(numbers) > 1 else 1, numbers[1] if len(numbers) == 3 else 1
        return " ".join(map(str, range(low, numbers[-1] + 1, max(1, step))))
    return None


_OPERATORS: Mapping[type[Any], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
}  # fmt: skip


def computed(text: str) -> int | None:
    """Whole-number arithmetic as the shell does it: divisions are cut. None for anything else."""
    if len(text) > 400 or not re.fullmatch(r"[\s\d+\-*/%()]+", text) or re.search(r"\d{16}", text):
        return None
    try:
        tree = ast.parse(text.strip().replace("/", "//") if "//" not in text else "?", mode="eval")
        return _whole(tree.body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError, OverflowError):
        return None


def _whole(node: ast.expr) -> int:
    """Raises: ValueError, ZeroDivisionError."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _whole(node.operand)
        return -inner if isinstance(node.op, ast.USub) else inner
    if not isinstance(node, ast.BinOp):
        raise ValueError("no arithmetic")
    left, right = _whole(node.left), _whole(node.right)
    if isinstance(node.op, ast.Pow) and 0 <= right <= 40 and abs(left) <= 1024:
        return int(left**right)
    if isinstance(node.op, ast.FloorDiv | ast.Mod):
        share = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return share if isinstance(node.op, ast.FloorDiv) else left - share * right
    if type(node.op) not in _OPERATORS:
        raise ValueError("no arithmetic")
    return _OPERATORS[type(node.op)](left, right)
