"""Literal secrets in a recipe: reported, and kept out of compiled files.

In `env { }` such a value is replaced by `secret("NAME")`, so that launch scripts contain a reference only. Elsewhere it is an
error. `# ftc: allow FT058 "reason"` marks a value that is not a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.credentials import secret_in, shape_of
from ftdsl.diagnostics import Diagnostic, Edit, Fix, Severity, Sink, allow
from ftdsl.language.resolve.keys import Path
from ftdsl.language.values import Script, Secret, Term, Value
from ftdsl.record import replace
from ftdsl.source import Span

CODE = "FT058"


@cache
def _tools() -> frozenset[str]:
    """Blocks with the keys of a tool, where the name of a key may be that of a secret."""
    vocab = vocabulary()
    return frozenset(["launch", *(name for name in vocab.block_names() if vocab.block(name).open)])


def without_secrets(values: Mapping[Path, Value], sink: Sink) -> dict[Path, Value]:
    """The values of a stage; secrets in `env { }` are replaced by references to the variable."""
    return {path: _checked(path, value, sink) for path, value in values.items()}


def _checked(path: Path, value: Value, sink: Sink) -> Value:
    secret = _secret_part(path, value.data)
    if secret is None:
        return value
    why, text = secret
    name, span = path[-1], _inside(value.span, text)
    if path[0] != "env":
        help = 'pass it in the environment: `env { NAME = secret("NAME") }`'
        sink.error(CODE, f"`{'.'.join(path)}` contains {why}, and would be written to compiled files", span, help=help)
        return value
    message = f"`{name}` contains {why}: its value is not compiled, and `{name}` must be set where the recipe runs"
    fix = Fix("refer to the variable", (Edit(value.span, f'secret("{name}")'),), safe=False) if value.span else None
    help = f'write `{name} = secret("{name}")`'
    sink.add(Diagnostic(CODE, message, span, Severity.WARNING, help=help, fix=fix))
    allowed = value.span is not None and allow.covers(value.span, CODE)  # still reported, so that the comment is used
    return value if allowed else replace(value, data=Secret(name))


def _secret_part(path: Path, data: Any) -> tuple[str, str] | None:
    """(kind of secret, text) of the secret in a value; None if there is none."""
    named = path[0] == "env" or (path[0] in _tools() and len(path) > 1)
    for text in _texts(data):
        if why := secret_in(path[-1], text) if named else shape_of(text):
            return why, text
    return None


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _texts(item)
    elif isinstance(data, Term):
        for option in data.options.values():
            yield from _texts(option)
    elif isinstance(data, Script):
        yield from (part for part in data.parts if isinstance(part, str))


def _inside(span: Span | None, text: str) -> Span | None:
    """The span of the text within its value, if it occurs literally."""
    at = span.text.find(text) if span is not None and text else -1
    return Span(span.source, span.start + at, span.start + at + len(text)) if span is not None and at >= 0 else span
