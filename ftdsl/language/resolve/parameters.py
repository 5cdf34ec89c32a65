"""Parameters and names: `-p name=value`, the types of `param`, calls in a `let`, and the default name of a recipe."""

from __future__ import annotations

import hashlib
import re

from ftdsl.catalog.vocabulary import BlockWords, Key
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.raw import Invoke
from ftdsl.session import Session
from ftdsl.source import Source, Span


def name_of(stem: str) -> str:
    """The name of a recipe from the stem of its file. If characters are replaced, a digest keeps names unique."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-").lstrip("._-")
    if name == stem:
        return name
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"{name or 'recipe'}-{digest}"


def parse_argument(text: str, value: str, param: tree.Param, session: Session) -> tree.Expression:
    """The expression in `-p name=value`; for a text, an invalid expression is taken literally."""
    from ftdsl.diagnostics import Sink

    attempt = Sink()
    file = parse(Source(f"-p {text}", text), attempt)
    item = file.items[0] if file.items else None
    whole = Span(file.source, len(text) - len(value), len(text))
    texty = param.type is not None and param.type.name.text in ("text", "path")
    if isinstance(item, tree.Bind) and not len(attempt) and len(file.items) == 1:
        if not (texty and isinstance(item.value, tree.Ref)):
            return item.value
    elif not texty:
        for problem in attempt:
            session.sink.add(problem)
        return tree.Missing(whole)
    return tree.Text((value,), whole)


_PARAM_TYPES = (
    "bool", "int", "number", "share", "rate", "count", "bytes", "time", "money", "text", "path", "name", "model", "data",
    "stage", "span", "steps", "every",
)  # fmt: skip


def param_type(written: tree.TypeName, session: Session) -> str | None:
    name = written.name.text
    inner = [t for t in (param_type(a, session) for a in written.arguments) if t]
    if name == "list" and len(inner) == 1:
        return f"list({inner[0]})"
    if name in _PARAM_TYPES and not written.arguments:
        return name
    guess = closest(name, [*_PARAM_TYPES, "list"])
    label = f"did you mean `{guess}`?" if guess else ""
    help = f"types: {', '.join(_PARAM_TYPES)}, list[…]"
    session.sink.error("FT060", f"unknown type `{name}`", written.name.span, label=label, help=help)
    return None


def check_call(raw: Invoke, session: Session) -> None:
    from ftdsl.catalog.vocabulary import vocabulary

    functions = vocabulary().functions
    if raw.name in functions or any(raw.name in (k.members or {}) for k in _all_keys()):
        return
    guess = closest(raw.name, functions)
    label = f"did you mean `{guess}`?" if guess else ""
    session.sink.error("FT015", f"unknown function `{raw.name}`", raw.call.path[0].span, label=label)


def _all_keys() -> list[Key]:
    nested = [k for b in keys.blocks("sft").values() if isinstance(b, BlockWords) for k in b.keys.values()]
    return [*keys.keys_of("file").values(), *nested]
