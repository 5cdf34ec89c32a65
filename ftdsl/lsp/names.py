"""Names of a recipe: where one is declared, where it is used, and another name for it.

What a use means is what the compiler found when it evaluated it. Names in what was not evaluated (profiles that were not
chosen) are taken by their text, unless a key of their block has that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ftdsl.language import tree
from ftdsl.language.resolve import keys as key_paths
from ftdsl.language.resolve.load import Module
from ftdsl.language.resolve.names import KeySymbol, LetSymbol, ParamSymbol, StageSymbol, Symbol
from ftdsl.language.resolve.resolve import Options, Resolved, resolve
from ftdsl.language.values import Script, Slot, StageRef, Term
from ftdsl.lsp.document import Document
from ftdsl.lsp.parts import children
from ftdsl.record import frozen
from ftdsl.session import Files, Session
from ftdsl.source import Source, Span

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYWORDS = frozenset(
    {"let", "param", "include", "from", "in", "as", "true", "false", "null", "profile", "template", "search"}
)


class RenameError(Exception):
    """Why a name cannot be changed; the message is for the user."""


@frozen(eq=True)
class Name:
    """Something declared: kind is "let", "param", "stage" or "key"; file and start: where its name is written."""

    kind: str
    text: str
    file: str
    start: int


@frozen
class Use:
    """A place where a name is written; `declares`: the declaration itself; explicit: a stage whose kind is its name."""

    name: Name
    span: Span
    declares: bool = False
    implicit: bool = False


def uses(document: Document) -> tuple[list[Use], Resolved | None]:
    """Every place that names something of the recipe, in all of its files; of the last check, if that was of this text."""
    result = document.current
    checked = result.checked.resolved if result is not None and result.checked is not None else None
    if result is None or checked is None:
        resolved = _resolved(document.path, document.session_files(), ())
        return (list(_uses(resolved)) if resolved else []), resolved
    if result.uses is None:
        result.uses = list(_uses(checked))
    return result.uses, checked


def _resolved(path: Path, files: Files, profiles: tuple[str, ...]) -> Resolved | None:
    return resolve(path, path.as_posix(), Options(profiles), Session(files))


def _uses(resolved: Resolved) -> Iterator[Use]:
    stages = {
        stage.name: _of_block(stage.declared.block) for stage in resolved.stages
    }  # every variant has the same block
    for module in resolved.module.everywhere():
        for layer in module.layers:
            for item in layer.items:
                yield from _of_item(item, module, resolved, stages, frozenset())


def _of_block(block: tree.Block) -> Name:
    word = block.label or block.kind
    return Name("stage", word.text, word.span.source.name, word.span.start)


def _of_declaration(item: tree.Let | tree.Param) -> Name:
    kind = "let" if isinstance(item, tree.Let) else "param"
    return Name(kind, item.name.text, item.name.span.source.name, item.name.span.start)


def _of_symbol(symbol: Symbol, stages: dict[str, Name]) -> Name | None:
    match symbol:
        case LetSymbol():
            return _of_declaration(symbol.let)
        case ParamSymbol():
            return _of_declaration(symbol.param)
        case StageSymbol():
            return stages.get(symbol.name)
        case KeySymbol():
            return Name("key", ".".join(symbol.entry.path), symbol.entry.span.source.name, symbol.entry.span.start)
    return None


def _of_item(
    item: tree.Item, module: Module, resolved: Resolved, stages: dict[str, Name], keys: frozenset[str], profile: bool = False
) -> Iterator[Use]:  # fmt: skip
    if isinstance(item, tree.Let | tree.Param):
        yield Use(_of_declaration(item), item.name.span, declares=True)
        value = item.value if isinstance(item, tree.Let) else item.default
        if value is not None:
            yield from _of_expression(value, module, resolved, stages, frozenset())
    elif isinstance(item, tree.Bind):
        first = item.key[0]
        if len(item.key) > 1 and first.text in stages and profile:
            yield Use(stages[first.text], first.span)
        yield from _of_expression(item.value, module, resolved, stages, keys - {item.key[-1].text})
    elif isinstance(item, tree.Block):
        if not keys and key_paths.is_stage_kind(item.kind.text):
            word = item.label or item.kind
            if word.text in stages and stages[word.text].start == word.span.start:
                yield Use(stages[word.text], word.span, declares=True, implicit=item.label is None)
        if profile and item.kind.text in stages and item.label is None:
            yield Use(stages[item.kind.text], item.kind.span)
        for parent in item.parents:
            if parent.path[0].text in stages and item.kind.text != "profile":
                yield Use(stages[parent.path[0].text], parent.path[0].span)
        own = frozenset(inner.key[-1].text for inner in item.body if isinstance(inner, tree.Bind))
        inside = item.kind.text == "profile"
        for inner in item.body:
            yield from _of_item(inner, module, resolved, stages, keys | own | {""}, inside)


def _of_expression(
    value: tree.Expression, module: Module, resolved: Resolved, stages: dict[str, Name], keys: frozenset[str]
) -> Iterator[Use]:
    if isinstance(value, tree.Ref):
        yield from _of_path(value.path, module, resolved, stages, keys)
    elif isinstance(value, tree.Text):
        for part in value.parts:
            if isinstance(part, tree.Hole):
                yield from _of_path(part.path, module, resolved, stages, keys)
    for inner in children(value):
        yield from _of_expression(inner, module, resolved, stages, keys)


def _of_path(
    path: Sequence[tree.Word], module: Module, resolved: Resolved, stages: dict[str, Name], keys: frozenset[str]
) -> Iterator[Use]:
    first = path[0]
    symbol = resolved.uses.get((first.span.source.name, first.span.start))
    if symbol is not None:
        name = _of_symbol(symbol, stages)
        word = path[-1] if isinstance(symbol, LetSymbol | ParamSymbol) else first
        if name is not None:
            yield Use(name, word.span)
        return
    if first.text in keys:
        return
    if len(path) == 1 and (declared := module.lets.get(first.text) or module.params.get(first.text)):
        yield Use(_of_declaration(declared), first.span)
    elif first.text in stages:
        yield Use(stages[first.text], first.span)


# --- requests


def definition(document: Document, offset: int) -> Span | None:
    """Where the name at an offset is declared; of an include the file."""
    every_use, resolved = uses(document)
    if resolved is not None and (path := _included(document, offset)):
        return Span(Source(path.as_posix(), ""), 0, 0)
    use = _at(every_use, document, offset)
    if use is None:
        return None
    declared = next(
        (candidate.span for candidate in every_use if candidate.declares and candidate.name == use.name), None
    )
    if declared is None and use.name.kind == "key" and resolved is not None:
        return _of_key(use.name, resolved)
    return declared


def _included(document: Document, offset: int) -> Path | None:
    start, part = document.parts.at(offset)
    for item in part.file.items:
        if isinstance(item, tree.Include) and item.path.span.start <= offset - start <= item.path.span.end:
            path = document.path.parent / (item.path.plain or "")
            return path if item.path.plain and document.session_files().is_file(path) else None
    return None


def _of_key(name: Name, resolved: Resolved) -> Span | None:
    for module in resolved.module.everywhere():
        for layer in module.layers:
            if layer.source.name == name.file:
                last = name.text.rpartition(".")[2]
                return Span(layer.source, name.start, name.start + len(last))
    return None


def references(document: Document, offset: int, *, declaration: bool = True) -> list[Span]:
    """Every place of the name at an offset."""
    every_use, _ = uses(document)
    use = _at(every_use, document, offset)
    spans = [
        other.span for other in every_use if use and other.name == use.name and (declaration or not other.declares)
    ]
    return _unique(spans)


def _unique(spans: Sequence[Span]) -> list[Span]:
    return list({(span.source.name, span.start): span for span in spans}.values())


def _at(every_use: Sequence[Use], document: Document, offset: int) -> Use | None:
    name = document.path.as_posix()
    return next((u for u in every_use if u.span.source.name == name and u.span.start <= offset <= u.span.end), None)


def renamable(document: Document, offset: int) -> Span:
    """The name at an offset. Raises: RenameError when it is none that can be changed."""
    every_use, _ = uses(document)
    use = _at(every_use, document, offset)
    if use is None or use.name.kind == "key":
        raise RenameError("only names of `let`, `param` and stages can be changed")
    return use.span


def rename(document: Document, offset: int, new: str) -> dict[str, list[tuple[Span, str]]]:
    """Edits by file, proven to leave every value and diagnostic as it was. Raises: RenameError."""
    every_use, resolved = uses(document)
    use = _at(every_use, document, offset)
    if use is None or resolved is None or use.name.kind == "key":
        raise RenameError("only names of `let`, `param` and stages can be changed")
    if not _NAME.fullmatch(new) or new in _KEYWORDS or (use.name.kind == "stage" and new.startswith("_")):
        raise RenameError(f"`{new}` cannot be a name: letters, digits and `_`, no keyword")
    if new == use.name.text:
        return {}
    taken = {other.name.text for other in every_use if other.declares} | set(resolved.module.aliases)
    if new in taken:
        raise RenameError(f"`{new}` is declared already")
    if use.name.kind == "stage" and (
        new in key_paths.keys_of("file") or new in key_paths.blocks("file") or key_paths.is_stage_kind(new)
    ):
        raise RenameError(f"`{new}` is a word of the language")
    edits: dict[str, list[tuple[Span, str]]] = {}
    renamed = {(u.span.source.name, u.span.start): u for u in every_use if u.name == use.name}
    for occurrence in renamed.values():
        text = f"{occurrence.span.text} {new}" if occurrence.implicit else new
        edits.setdefault(occurrence.span.source.name, []).append((occurrence.span, text))
    _prove(document, resolved, edits, use.name, new)
    return edits


def _prove(
    document: Document, before: Resolved, edits: dict[str, list[tuple[Span, str]]], name: Name, new: str
) -> None:
    """Check that under each profile the recipe has the same values and the same diagnostics after the edits."""
    changed = {
        Path(file): _edited(replacements[0][0].source.text, replacements) for file, replacements in edits.items()
    }
    texts = {**document.unsaved, document.path: document.text, **changed}
    for profiles in ((), *((profile,) for profile in before.module.profiles)):
        old = _digest(document.path, document.session_files(), profiles, name.text)
        now = _digest(document.path, Files(texts), profiles, new)
        if old != now:
            raise RenameError(f"with the name `{new}` the recipe would mean something else")


def _edited(text: str, replacements: Sequence[tuple[Span, str]]) -> str:
    for span, new in sorted(replacements, key=lambda replacement: replacement[0].start, reverse=True):
        text = text[: span.start] + new + text[span.end :]
    return text


def _digest(path: Path, files: Files, profiles: tuple[str, ...], name: str) -> object:
    """Values of all stages with the name taken out, and the codes of diagnostics."""
    session = Session(files)
    resolved = resolve(path, path.as_posix(), Options(profiles), session)
    codes = sorted(diagnostic.code for diagnostic in session.sink)
    if resolved is None:
        return codes
    label = re.compile(rf"(^|,){re.escape(name)}=")
    values = [
        (
            label.sub(r"\1=", stage.run),
            len(stage.parents),
            {key: _without(value.data, name) for key, value in stage.values.items()},
        )
        for stage in resolved.stages
    ]
    return codes, values


def _without(data: Any, name: str) -> Any:
    """A value without the name in references to stages and in slots of scripts, which keep how they were written."""
    if isinstance(data, StageRef):
        run = re.sub(rf"(^|,){re.escape(name)}=", r"\1=", data.run)
        return StageRef("" if data.stage == name else data.stage, data.part, run)
    if isinstance(data, Term):
        return (data.name, {key: _without(value, name) for key, value in data.options.items()})
    if isinstance(data, Script):
        return [_without(part, name) for part in data.parts]
    if isinstance(data, Slot):
        first, dot, rest = data.name.partition(".")
        return ("" if first == name else first, dot, rest, _without(data.value, name))
    if isinstance(data, list | tuple):
        return [_without(item, name) for item in data]
    return data
