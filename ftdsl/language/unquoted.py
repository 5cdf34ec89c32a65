"""Paths, hub names and sentences written without quotes: `data/rows.jsonl`, `meta-llama/Llama-3.1-8B`, `You are a poet.`

Some are syntax errors, others parse as arithmetic (`meta - llama / Llama - 3.1`); all get the same message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lark import Token

from ftdsl.diagnostics import Edit, Fix, Sink
from ftdsl.language import tree
from ftdsl.source import Source, Span

MODELS = ("model", "reference", "reward", "base", "against", "like", "where")
DATA = ("data", "source", "calibrate")

_RUN = re.compile(r"""[^\s,;(){}\[\]"'#=]+""")
_ENDING = re.compile(r"\.(?:jsonl?|csv|tsv|parquet|arrow|txt|ya?ml|ft|gz|bz2|zst|safetensors|bin|gguf|pt|py|sh)$")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")


def run_at(source: Source, offset: int) -> Span:
    """The span from an offset to the next blank, bracket, comma or quote."""
    match = _RUN.match(source.text, offset)
    return Span(source, offset, match.end() if match else offset)


def name_around(span: Span) -> Span:
    """The letters, digits and `_` around a character."""
    text, start, end = span.source.text, span.start, span.end
    while start and text[start - 1].isidentifier():
        start -= 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return Span(span.source, start, end)


def is_joined(text: str) -> bool:
    """`a:b`, `C:\\models`: no key and value, which have a blank between them."""
    return re.search(r"\w:[\w\\]", text) is not None


def is_path(text: str) -> bool:
    """Whether a text must be a path or URL."""
    return bool(text.startswith(("/", "./", "../", "~/")) or "://" in text or _ENDING.search(text))


def is_name(text: str) -> bool:
    """Whether it may be a path or a model's name: no blanks, and a slash or a hyphen."""
    return _RUN.fullmatch(text) is not None and ("/" in text or "-" in text or is_path(text))


TEXT_FUNCTIONS = ("file", "hf", "env", "secret", "study")
"""Functions whose first argument is a text."""

PROSE = 5
"""Words from which a list of words without brackets is a sentence with a comma in it."""

_MARKS = "!?…—’“”。，！？、；：¿¡"


def sentence(source: Source, tokens: Sequence[Token], at: int) -> Span | None:
    """The text without quotes that begins at token `at`, after `=` or `file(`: words that follow each other, which no value
    has. It ends with the line, or before the next item of the line. None if it is none.
    """
    if at < 2 or not _is_word(tokens[at]):
        return None
    inside = tokens[at - 1].type == "LPAR"
    if (not inside and tokens[at - 1].type != "EQUAL") or (inside and str(tokens[at - 2]) not in TEXT_FUNCTIONS):
        return None
    following = tokens[at + 1 : at + 2]
    if not following or (following[0].type in ("LPAR", "DOT") and following[0].start_pos == tokens[at].end_pos):
        return None  # a call
    last, words, joined, after_comma = at, 1, False, False
    for index in range(at + 1, len(tokens)):
        token, before = tokens[index], tokens[index - 1]
        if token.type in ("_NL", "RBRACE") or (inside and token.type == "RPAR"):
            break
        if token.type in ("EQUAL", "LBRACE") or token.line != tokens[at].line:
            return None
        if token.type == "COMMA" and _item_follows(tokens, index + 1):
            break
        words += _is_word(token)
        if _is_word(before) and _continues(token, before, alien=tokens[at].type == "STRAY"):
            joined, after_comma = True, after_comma or (not joined and any(t.type == "COMMA" for t in tokens[at:index]))
        last = index
    if not joined or (after_comma and words < PROSE):
        return None
    start, end = tokens[at].start_pos or 0, tokens[last].end_pos or 0
    return Span(source, start, start + len(source.text[start:end].split("\n")[0].rstrip()))


def _is_word(token: Token) -> bool:
    return token.type not in ("STRING", "UNCLOSED") and token[:1].isalpha()


def _continues(token: Token, before: Token, *, alien: bool) -> bool:
    """Whether a token after a word makes them prose: another word after a blank, the quote of `don't`, a mark that the language
    has not. alien: the text begins in a script that it has not, and which may have no blanks.
    """
    apart = token.start_pos != before.end_pos
    if token.type in ("STRING", "UNCLOSED"):
        return not apart
    return (_is_word(token) and (apart or alien)) or (token.type == "STRAY" and str(token) in _MARKS)


def _item_follows(tokens: Sequence[Token], at: int) -> bool:
    """Whether an item of a block, a key with its value or a block, begins at token `at`."""
    for index in range(at, len(tokens)):
        kind, *after = [token.type for token in tokens[index : index + 3]]
        if kind in ("EQUAL", "LBRACE"):
            return True
        if kind in ("_NL", "COMMA", "RBRACE"):
            return False
        if kind in ("IN", "TILDE") and index > at and after[:1] in (["LSQB"], ["NAME"]):
            return after[0] == "LSQB" or after[1:] == ["LPAR"]
    return False


def leaves(node: tree.Expression) -> list[tree.Ref]:
    """The names of a sum or product."""
    names: list[tree.Ref] = []
    todo: list[tree.Expression] = [node]
    while todo:
        inner = todo.pop()
        if isinstance(inner, tree.Binary):
            todo += (inner.right, inner.left)
        elif isinstance(inner, tree.Ref):
            names.append(inner)
    return names


def quoted(text: str, key: str) -> str:
    """The quoted form: `hf(…)` or `file(…)` for a key that takes a model or data, else a string."""
    if key in MODELS + DATA:
        hub = _HUB.fullmatch(text) and not _ENDING.search(text) and not (key in DATA and "/" not in text)
        return f"{'hf' if hub else 'file'}({_in_quotes(text)})"
    return _in_quotes(text)


def _in_quotes(text: str) -> str:
    """Raw where it holds a backslash (`C:\\models`), which is none of ours, or a quote."""
    if "\\" not in text and '"' not in text:
        return f'"{text}"'
    return f"'{text}'" if "'" not in text else f"'''{text}'''"


def report(span: Span, key: str, sink: Sink) -> None:
    """Report it, with the quoted form as the fix; the choice of `hf` or `file` is a guess."""
    written = quoted(span.text, key)
    fix = Fix(f"write `{written}`", (Edit(span, written),), safe=written[0] in "\"'" or is_path(span.text))
    sink.error("FT066", f"`{span.text}` needs quotes", span, help=f"write `{written}`", fix=fix)
