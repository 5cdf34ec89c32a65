"""LLaMA-Factory's own YAML in an editor: completion and hover from the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lsprotocol.types import CompletionItem, CompletionItemKind, Hover, MarkupContent, MarkupKind, TextEdit

from ftdsl import catalog
from ftdsl.catalog.history import about
from ftdsl.importers.recognise import ENGINE

if TYPE_CHECKING:
    from ftdsl.lsp.document import Document

_LINE = re.compile(r"^(?P<key>[A-Za-z_]\w*)(?P<colon>[ \t]*:(?:[ \t]+|$))?(?P<value>[^#\n]*)", re.MULTILINE)
_BOOLEANS = ("true", "false")


def is_configuration(text: str, path: Path) -> bool:
    """Whether most keys of a YAML text are the engine's; also of a text that cannot be read at the moment."""
    keys = {match["key"] for match in _LINE.finditer(text) if match["colon"]}
    known = keys & set(catalog.engine_schema(ENGINE))
    return path.suffix in (".yaml", ".yml") and len(known) >= 2 and 2 * len(known) > len(keys)


def _line(document: Document, offset: int) -> re.Match[str] | None:
    start = document.text.rfind("\n", 0, offset) + 1
    return _LINE.match(document.text, start)


def complete(document: Document, offset: int) -> list[CompletionItem]:
    """Parameters that are not set yet; after a colon the values of the parameter."""
    if not is_configuration(document.text, document.path):
        return []
    start = document.text.rfind("\n", 0, offset) + 1
    typed = document.text[start:offset]
    match = _line(document, offset)
    if match is not None and match["colon"] and offset >= match.start("value"):
        replaced = document.lines.range(match.start("value"), match.end("value"))
        values = _values(match["key"])
        return [
            CompletionItem(value, kind=CompletionItemKind.Value, text_edit=TextEdit(replaced, value))
            for value in values
        ]
    if not re.fullmatch(r"\w*", typed):
        return []
    word = re.match(r"\w*", document.text[start:])
    end = start + len(word[0]) if word else offset
    present = {line["key"] for line in _LINE.finditer(document.text) if line["colon"]}
    replaced = document.lines.range(start, end)
    suffix = "" if match is not None and match["colon"] else ": "
    return [
        CompletionItem(
            name,
            kind=CompletionItemKind.Property,
            detail=str(fact.get("type", "")) or None,
            documentation=MarkupContent(MarkupKind.Markdown, _about(name, fact)),
            text_edit=TextEdit(replaced, f"{name}{suffix}"),
        )
        for name, fact in catalog.engine_schema(ENGINE).items()
        if name not in present and name.startswith(typed[:1])
    ]


def _values(key: str) -> list[str]:
    fact = catalog.engine_schema(ENGINE).get(key, {})
    if fact.get("choices"):
        return [str(choice) for choice in fact["choices"]]
    if key == "template":
        return catalog.templates(ENGINE)
    if key == "model_name_or_path":
        return [hub for sizes in catalog.models().values() for hub in sizes.get("hub", ())]
    if key == "optim":
        return catalog.names("optimizers")
    return list(_BOOLEANS) if "bool" in str(fact.get("type", "")) else []


def _about(name: str, fact: Mapping[str, object]) -> str:
    return "\n\n".join(_lines(name, fact))


def _lines(name: str, fact: Mapping[str, object]) -> Iterator[str]:
    default = fact.get("default", fact.get("default_code"))
    yield f"**{name}**: `{fact.get('type', 'any')}`" + (
        f", default `{default}`" if "default" in fact or default else ""
    )
    if text := about(ENGINE, name) or about("transformers", name):
        yield text
    if fact.get("choices"):
        yield "one of " + ", ".join(f"`{choice}`" for choice in fact["choices"])  # type: ignore[attr-defined]
    history = catalog.key_history(ENGINE, name) or catalog.key_history("transformers", name)
    if history is not None and not history.earliest:
        yield f"since {history.package} {history.since}"
    status = catalog.parameter_status(ENGINE, name)
    if status is not None and status.word:
        yield f"in a recipe: `{status.word}`"
    elif status is not None:
        yield {
            "passthrough": "in a recipe: by `llamafactory { }`",
            "derived": "a recipe derives it",
            "dead": "has no effect",
        }.get(status.kind, "")


def hover(document: Document, offset: int) -> Hover | None:
    """The parameter at an offset."""
    match = _line(document, offset)
    if (
        match is None
        or not match["colon"]
        or offset > match.end("key")
        or not is_configuration(document.text, document.path)
    ):
        return None
    fact = catalog.engine_schema(ENGINE).get(match["key"])
    if fact is None:
        return None
    key_range = document.lines.range(match.start("key"), match.end("key"))
    return Hover(MarkupContent(MarkupKind.Markdown, _about(match["key"], fact)), key_range)
