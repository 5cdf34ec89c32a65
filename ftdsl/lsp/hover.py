"""Hover: what a word means, what it takes, where its value comes from, and what it becomes."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol.types import Hover, MarkupContent, MarkupKind

from ftdsl.catalog.vocabulary import ANY_NAME, BlockWords, Function, Key, vocabulary
from ftdsl.credentials import masked
from ftdsl.language import tree
from ftdsl.language.resolve import keys as key_paths
from ftdsl.language.resolve.names import KeySymbol, LetSymbol, ParamSymbol, StageSymbol
from ftdsl.language.types import describe, parse_type
from ftdsl.language.units import unit_of
from ftdsl.lsp.context import Context, argument_of, context
from ftdsl.lsp.document import Document
from ftdsl.lsp.hints import cost_of
from ftdsl.lsp.parts import items


def hover(document: Document, offset: int) -> Hover | None:
    """What the word at an offset means; None between words."""
    start, part = document.parts.at(offset)
    token = next(
        (token for token in part.tokens if (token.start_pos or 0) <= offset - start < (token.end_pos or 0)), None
    ) or next((token for token in part.tokens if (token.end_pos or 0) == offset - start), None)
    if token is None or token.type == "COMMENT":
        return None
    first, last = token.start_pos or 0, token.end_pos or 0
    here = context(part, first, document.stages)
    text = ""
    if token.type == "NUMBER":
        text = _unit(str(token))
    elif str(token)[:1].isalpha() or str(token)[:1] == "_":
        follows = next(
            (other for other in part.tokens if (other.start_pos or 0) >= last and other.type != "COMMENT"), None
        )
        sign = str(follows) if follows is not None else ""
        text = masked(_word(document, here, str(token), start + first, sign), names=False)
    return (
        Hover(MarkupContent(MarkupKind.Markdown, text), document.lines.range(start + first, start + last))
        if text
        else None
    )


def _word(document: Document, here: Context, word: str, offset: int, follows: str) -> str:
    if (declared := _declared_at(document, offset)) is not None:
        return _declared(document, word) if isinstance(declared, tree.Let | tree.Param) else _stage(document, word)
    if here.mode == "item" or (here.mode == "none" and not here.key):
        return _item(document, here, word, offset)
    if here.mode == "from":
        return _stage(document, word)
    if here.key or here.mode == "value":
        return _in_value(document, here, word, offset, follows)
    return ""


def _item(document: Document, here: Context, word: str, offset: int) -> str:
    if here.before and here.before[0] in document.stages and here.kind == "file":
        kind, path, stage = document.stages[here.before[0]], (*here.before[1:], word), here.before[0]
    else:
        kind, path, stage = here.kind, (*here.path, *here.before, word), _stage_at(document, offset)
    if not here.blocks and not here.before and key_paths.is_stage_kind(word):
        return _stage_kind(word) + _doc_at(document, offset)
    meaning = key_paths.find(kind, path)
    if isinstance(meaning, BlockWords):
        return _block(meaning)
    if isinstance(meaning, Key):
        return _key(document, kind, path, meaning, stage)
    return _stage(document, word) or _declared(document, word)


def _declared_at(document: Document, offset: int) -> tree.Let | tree.Param | tree.Block | None:
    """What a name declares where it is written: it may be called like a key."""
    start, part = document.parts.at(offset)
    for item in part.file.items:
        name = (
            item.name
            if isinstance(item, tree.Let | tree.Param)
            else item.label
            if isinstance(item, tree.Block)
            else None
        )
        if name is not None and start + name.span.start == offset:
            return item if isinstance(item, tree.Let | tree.Param | tree.Block) else None
    return None


def _stage_at(document: Document, offset: int) -> str:
    """The name of the stage around an offset."""
    start, part = document.parts.at(offset)
    for item in part.file.items:
        if isinstance(item, tree.Block) and item.span.start <= offset - start < item.span.end:
            return (item.label or item.kind).text
    return ""


def _doc_at(document: Document, offset: int) -> str:
    start, part = document.parts.at(offset)
    for item in part.file.items:
        if isinstance(item, tree.Block) and item.kind.span.start == offset - start:
            return (f"\n\n{item.doc}" if item.doc else "") + _plan(document, (item.label or item.kind).text)
    return ""


def _stage_kind(word: str) -> str:
    own = vocabulary().block(word).about if word in vocabulary() else ""
    return f"**{word}**: a stage" + (f"\n\n{own}" if own else "")


def _block(block: BlockWords) -> str:
    keys = ", ".join(f"`{name}`" for name in block.keys)
    return "\n\n".join(filter(None, [f"**{block.name}** {{ }}", block.about, f"keys: {keys}" if keys else ""]))


def _key(document: Document, kind: str, path: tuple[str, ...], key: Key, stage: str) -> str:
    dotted = ".".join(path)
    lines = [f"**{dotted}**: {describe(parse_type(key.type))}{_bounds(key)}"]
    lines.append(key.doc.removeprefix("* "))
    if key.default or key.auto:
        lines.append(f"default: `{key.default or key.auto}`")
    lines += _members(key)
    lines += _value(document, stage, dotted)
    lines += _becomes(kind, dotted)
    return "\n\n".join(filter(None, lines))


def _bounds(key: Key) -> str:
    bounds = (
        ("{:g} or more", key.min),
        ("above {:g}", key.above),
        ("at most {:g}", key.max),
        ("below {:g}", key.below),
    )
    return "".join(f", {text.format(bound)}" for text, bound in bounds if bound is not None)


def _members(key: Key) -> Iterator[str]:
    names = [name for name in key.members or () if name != ANY_NAME]
    if names:
        yield "one of " + ", ".join(f"`{name}`" for name in names[:24]) + (", …" if len(names) > 24 else "")


def _beside(document: Document, origin: object) -> str:
    """Where a value is from, as seen from the recipe's folder: an editor knows recipes by absolute paths."""
    return str(origin).replace(f"{document.path.parent.as_posix()}/", "")


def _value(document: Document, stage: str, dotted: str) -> Iterator[str]:
    """The value in force, and every layer that set it, of the last check."""
    from ftdsl.recipe.settings import shown

    checked = document.result.checked if document.result else None
    if checked is None or checked.plan is None:
        return
    for planned in checked.plan.stages:
        if planned.stage.name != stage:
            continue
        value, origin = planned.stage.settings.get(dotted), planned.stage.origins.get(dotted)
        choice = next((choice for choice in planned.choices if choice.key == dotted), None)
        layers = [f"`{text}` ({_beside(document, who)})" for name, text, who in planned.stage.layers if name == dotted]
        if value is not None:
            source = (
                f" (plan: {choice.reason})"
                if choice
                else f" (from {_beside(document, origin)})"
                if origin
                else " (default)"
            )
            yield f"value: `{shown(value)}`{source}"
        if len(layers) > 1:
            yield "set by " + ", then ".join(layers)
        return


def _becomes(kind: str, dotted: str) -> Iterator[str]:
    from ftdsl.engines.reference import KeyEntry, find

    for entry in find(f"{kind}.{dotted}") or find(dotted):
        if isinstance(entry, KeyEntry):
            for engine, targets in entry.becomes.items():
                own = entry.engine_defaults.get(engine)
                yield (
                    f"{engine}: "
                    + ", ".join(f"`{target}`" for target in targets)
                    + (f" (its default: `{own}`)" if own else "")
                )
            if entry.example:
                yield f"```ft\n{entry.example}\n```"
            return


def _plan(document: Document, stage: str) -> str:
    checked = document.result.checked if document.result else None
    lines = []
    for planned in checked.plan.stages if checked and checked.plan else ():
        if planned.stage.name == stage:
            lines += [f"batch: {planned.batch}"] if planned.batch else []
            cost = cost_of(document.result.forecasts.get(planned.key)) if document.result else ""
            lines += [f"memory and time: {cost}"] if cost else []
            lines += [
                f"chosen: `{choice.key} = {choice.value}` ({choice.reason})"
                for choice in planned.choices
                if choice.reported
            ]
            break
    return "".join(f"\n\n{line}" for line in lines)


def _in_value(document: Document, here: Context, word: str, offset: int, follows: str) -> str:
    if follows == "=" and here.call:
        key = key_paths.find(here.kind, (*here.path, *here.key))
        option = argument_of(key, here.call, word) if isinstance(key, Key) else None
        return f"**{word}**: {describe(parse_type(option.type))}{_bounds(option)}\n\n{option.doc}" if option else ""
    if here.number and unit_of(word):
        return _unit(f"1{word}")
    checked = document.current.checked if document.current else None
    uses = checked.resolved.uses if checked and checked.resolved else {}
    match uses.get((document.path.as_posix(), offset)):
        case LetSymbol() | ParamSymbol():
            return _declared(document, word)
        case StageSymbol():
            return _stage(document, word)
        case KeySymbol() as symbol:
            value = symbol.entry.value.span.text if symbol.entry.value else ""
            return f"`{'.'.join(symbol.entry.path)} = {value}` ({_beside(document, symbol.entry.origin)})"
    key = here.definition
    if follows == "(" and word in vocabulary().functions:
        uses_of = vocabulary().functions[word]
        fitting = [use for name, use in uses_of.items() if key is not None and name in key.type] or list(
            uses_of.values()
        )
        return _function(fitting[0])
    if key is not None and word in (key.members or {}):
        options = ", ".join((key.members or {})[word].options)
        return f"`{word}`: a value of `{key.name}`" + (f"; options: {options}" if options else "") + f"\n\n{key.doc}"
    return _declared(document, word) or _stage(document, word)


def _function(function: Function) -> str:
    lines = [f"**{function.name}**(…): {function.use}"]
    for option in function.options.values():
        lines.append(
            f"- `{option.name}`: {describe(parse_type(option.type))}{', ' + option.doc.removeprefix('* ') if option.doc else ''}"
        )
    return "\n".join(lines)


def _unit(text: str) -> str:
    digits = text.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = unit_of(text[len(digits) :])
    try:
        number = float(digits.replace("_", ""))
    except ValueError:
        return ""
    if unit is None or not text[len(digits) :]:
        return ""
    base = {"bytes": "bytes", "time": "seconds", "share": "as a share of 1", "count": ""}.get(
        unit.dimension, unit.dimension
    )
    return f"`{text}` = {number * unit.factor:,.12g} {base}".rstrip()


def _declared(document: Document, word: str) -> str:
    for item in document.declared():
        if item.name.text == word:
            return f"```ft\n{item.span.text}\n```" + (f"\n\n{item.doc}" if item.doc else "")
    return ""


def _stage(document: Document, word: str) -> str:
    for _, item in items(document.parts):
        if isinstance(item, tree.Block) and (item.label or item.kind).text == word and word in document.stages:
            return f"```ft\n{item.header.text}\n```" + (f"\n\n{item.doc}" if item.doc else "") + _plan(document, word)
    return f"**{word}**: a {document.stages[word]} stage" if word in document.stages else ""
