"""Paths and hub names written without quotes: `data/rows.jsonl`, `meta-llama/Llama-3.1-8B`, `./out`.

Some are syntax errors, others parse as arithmetic (`meta - llama / Llama - 3.1`); both get the same message.
"""

from __future__ import annotations

import re

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
    """Raw where it holds a backslash (`C:\\models`), which is none of ours."""
    return f"'{text}'" if "\\" in text else f'"{text}"'


def report(span: Span, key: str, sink: Sink) -> None:
    """Report it, with the quoted form as the fix; the choice of `hf` or `file` is a guess."""
    written = quoted(span.text, key)
    fix = Fix(f"write `{written}`", (Edit(span, written),), safe=written[0] in "\"'" or is_path(span.text))
    sink.error("FT066", f"`{span.text}` needs quotes", span, help=f"write `{written}`", fix=fix)
