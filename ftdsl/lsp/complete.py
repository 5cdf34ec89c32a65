"""Completion: what may stand at the cursor, by scope and by the type that is wanted there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lsprotocol.types import CompletionItem, CompletionItemKind, MarkupContent, MarkupKind, Range, TextEdit

from ftdsl import catalog
from ftdsl.catalog.vocabulary import ANY_NAME, BlockWords, Function, Key, vocabulary
from ftdsl.language import tree
from ftdsl.language.resolve import keys as key_paths
from ftdsl.language.types import Type, describe, parse_type
from ftdsl.lsp import measured
from ftdsl.lsp.context import Context, context, within
from ftdsl.lsp.document import Document

_UNITS: Mapping[str, tuple[str, ...]] = {
    "span": ("epochs", "steps", "tokens"),
    "every": ("steps", "epoch", "%"),
    "warmup": ("%", "steps"),
    "steps": ("steps",),
    "epochs": ("epochs",),
    "tokens": ("tokens",),
    "bytes": ("GB", "MB", "GiB", "MiB"),
    "time": ("min", "h", "s", "d"),
    "money": ("USD", "EUR", "GBP", "CNY", "JPY"),
    "share": ("%",),
    "part": ("%",),
    "level": ("%",),
    "stderrs": ("stderr",),
    "count": ("k", "M", "Ki", "Mi"),
}
_USES: Mapping[str, tuple[str, ...]] = {
    "model": ("model",), "data": ("data",), "push": ("push",), "server": ("server",), "bound": ("bound",), "goal": ("goal",),
    "order": ("order",), "phase": ("phase",), "text": ("value",), "variable": ("value",), "path": ("value",),
}  # fmt: skip
_PARAM_TYPES = ("int", "number", "bool", "text", "share", "count", "time", "bytes", "model", "data", "list")
_DECLARATIONS = {
    "let": "let name = value: a name for a value",
    "param": "param name: type = default: a value that the command line may set",
    "include": 'include "common.ft"',
    "profile": "profile name { }: changes that --profile applies",
    "template": "template name { }: a chat template",
    "search": "search { goal = … }: a search for values",
}
_SPLITS = ("train", "eval", "test")
_GOALS = ("minimize", "maximize", "lowest", "highest")
MANY = 400
"""Items a list has at most; the client is told to ask again as the word grows."""


def complete(document: Document, offset: int) -> tuple[list[CompletionItem], bool]:
    """The items at an offset, and whether there are more than were returned."""
    start, part = document.parts.at(offset)
    here = context(part, offset - start, document.stages)
    items = list(_items(document, here))
    typed = here.text if here.text is not None else here.word
    begin = offset - len(typed)
    fitting = [item for item in items if _matches(item.label, typed)]
    typed_range = document.lines.range(begin, offset)
    return [_placed(item, typed_range) for item in fitting[:MANY]], len(fitting) > MANY


def _matches(label: str, typed: str) -> bool:
    """Whether the letters that were typed are in the label in this order: what editors filter by."""
    letters = iter(label.lower())
    return all(letter in letters for letter in typed.lower())


def _placed(item: CompletionItem, typed_range: Range) -> CompletionItem:
    item.text_edit = TextEdit(typed_range, item.insert_text or item.label)
    item.insert_text = None
    return item


def _items(document: Document, here: Context) -> Iterator[CompletionItem]:
    if here.mode == "include" or (here.text is not None and here.call in ("file", "python")):
        yield from _files(document, here)
    elif here.text is not None:
        yield from _in_text(document, here)
    elif here.mode == "item":
        yield from _keys(document, here)
    elif here.mode == "from":
        for name, kind in document.stages.items():
            if kind not in ("data", "eval", "shell"):
                yield _item(name, CompletionItemKind.Class, f"{kind} stage")
    elif here.mode == "type":
        yield from (_item(name, CompletionItemKind.TypeParameter, "type") for name in _PARAM_TYPES)
    elif here.mode == "value":
        yield from _values(document, here)


def _item(label: str, kind: CompletionItemKind, detail: str = "", about: str = "", insert: str = "") -> CompletionItem:
    note = MarkupContent(MarkupKind.Markdown, about) if about else None
    return CompletionItem(label, kind=kind, detail=detail or None, documentation=note, insert_text=insert or None)


# --- keys and blocks


def _keys(document: Document, here: Context) -> Iterator[CompletionItem]:
    if here.before:
        kind, path = here.kind, (*here.path, *here.before)
        if not here.path and here.before[0] in document.stages and here.blocks[:1] in ((), ("profile",)):
            kind, path = document.stages[here.before[0]], here.before[1:]
        yield from _keys_of(kind, path, blocks=False)
        return
    if here.path == ("gate",):
        for name in measured.scores(document, here.stage):
            yield _item(name, CompletionItemKind.Field, "score", insert=f"{name} = ")
    yield from _keys_of(here.kind, here.path)
    if not here.blocks:
        for kind in vocabulary().stage_kinds:
            yield _item(kind, CompletionItemKind.Class, "stage", insert=f"{kind} ")
        for word, about in _DECLARATIONS.items():
            yield _item(word, CompletionItemKind.Keyword, about, insert=f"{word} ")
    if here.blocks == ("profile",):
        for name, kind in document.stages.items():
            yield _item(name, CompletionItemKind.Class, f"{kind} stage of this recipe", insert=f"{name} ")


def _keys_of(kind: str, path: tuple[str, ...], *, blocks: bool = True) -> Iterator[CompletionItem]:
    block = within(kind, path)
    if path and block is None:
        return
    keys = block.keys if block else key_paths.keys_of(kind)
    for key in keys.values():
        yield _item(
            key.name, CompletionItemKind.Property, describe(parse_type(key.type)), _about(key), f"{key.name} = "
        )
    if block is not None and block.open:
        yield from _open_keys(block)
    inner = key_paths.blocks(block.name if block else kind) if blocks else {}
    for name, other in inner.items():
        yield _item(name, CompletionItemKind.Module, "block", other.about, f"{name} ")


def _open_keys(block: BlockWords) -> Iterator[CompletionItem]:
    """Keys of a passthrough block: the parameters of the program that it goes to."""
    if block.name in catalog.PASSTHROUGH:
        names: Iterable[str] = catalog.passthrough_schema(block.name)
    elif block.name in catalog.known_engines():
        names = catalog.engine_schema(block.name)
    else:
        return
    for name in names:
        yield _item(name, CompletionItemKind.Field, f"parameter of {block.name}", insert=f"{name} = ")


def _about(key: Key) -> str:
    default = key.default or key.auto
    parts = [key.doc.removeprefix("* "), f"default: `{default}`" if default else ""]
    return "\n\n".join(filter(None, parts))


# --- values


def _values(document: Document, here: Context) -> Iterator[CompletionItem]:
    key = here.definition
    if here.call in _GOALS and here.key == ("goal",):
        yield from _goals(document, here)
        return
    if here.before:
        yield from _parts_of(document, here)
        return
    if here.binder == "TILDE" and not here.call:
        for name, uses in vocabulary().functions.items():
            if "dist" in uses:
                yield _function(uses["dist"], name)
        return
    if here.number:
        yield from _units(key)
        return
    if here.key == ("profile",) and here.kind == "file":
        yield from (_item(name, CompletionItemKind.Class, "profile") for name in document.profiles)
        return
    if here.call and not here.argument:
        yield from _arguments(here)
    if key is not None:
        yield from _of_type(document, parse_type(key.type), key)
        if key.auto:
            yield _item("auto", CompletionItemKind.Constant, "chosen by the plan")
        if key.catalog and "member" not in key.type:
            yield from _members(key)
        if key.name == "targets":
            yield _item("all", CompletionItemKind.Constant, "every linear layer")
        if key.name == "settings":
            yield _item("search.best", CompletionItemKind.Property, "the best trial")
    yield from _names(document, everything=key is None and not here.call)


def _of_type(document: Document, kind: Type, key: Key) -> Iterator[CompletionItem]:
    if kind.options:
        for option in kind.options:
            yield from _of_type(document, option, key)
        return
    if kind.name in ("list", "range") and kind.item:
        yield from _of_type(document, kind.item, key)
        return
    match kind.name:
        case "bool":
            yield from (_item(word, CompletionItemKind.Constant) for word in ("true", "false"))
        case "auto" | "none" | "all" | "exact":
            yield _item(kind.name, CompletionItemKind.Constant)
        case "member":
            yield from _members(key)
        case "every":
            yield _item("never", CompletionItemKind.Constant)
    if kind.name in ("model", "stage", "data", "path"):
        for name, stage in document.stages.items():
            if kind.name == "stage" or (stage == "data") is (kind.name == "data"):
                yield _item(name, CompletionItemKind.Class, f"{stage} stage")
            if kind.name == "data" and stage == "data":
                yield from (_item(f"{name}.{split}", CompletionItemKind.Class, "split") for split in _SPLITS[1:])
    for use in _USES.get(kind.name, ()):
        for name, uses in vocabulary().functions.items():
            if use in uses:
                yield _function(uses[use], name)
    if kind.name == "model":
        yield from _models(quoted=True)


def _members(key: Key) -> Iterator[CompletionItem]:
    for name, member in (key.members or {}).items():
        if name != ANY_NAME:
            detail = f"{name}({', '.join(member.options)})" if member.options else ""
            yield _item(name, CompletionItemKind.EnumMember, detail)
    if key.catalog:
        for name in catalog.names(key.catalog):
            yield _item(name, CompletionItemKind.EnumMember, key.catalog)


def _function(function: Function, name: str) -> CompletionItem:
    text = any(
        option.type in ("text", "path") for option in function.options.values() if option.name in function.positional
    )
    return _item(
        name, CompletionItemKind.Function, f"{name}({', '.join(function.options)})", insert=f'{name}("")' if text else f"{name}()"
    )  # fmt: skip


def _arguments(here: Context) -> Iterator[CompletionItem]:
    key = key_paths.find(here.kind, (*here.path, *here.key))
    member = (key.members or {}).get(here.call) if isinstance(key, Key) else None
    if member is not None:
        options: Mapping[str, Key] = member.options
    else:
        options = {name: option for use in vocabulary().functions.get(here.call, {}).values()
                   for name, option in use.options.items()}  # fmt: skip
    for name, option in options.items():
        yield _item(name, CompletionItemKind.Property, describe(parse_type(option.type)), _about(option), f"{name} = ")


def _units(key: Key | None) -> Iterator[CompletionItem]:
    kinds = parse_type(key.type) if key else Type("any")
    names = [option.name for option in kinds.options or (kinds,)]
    units = dict.fromkeys(unit for name in names for unit in _UNITS.get(name, ()))
    from ftdsl.language.units import ALL_UNITS

    for unit in units or ALL_UNITS:
        yield _item(unit, CompletionItemKind.Unit, "unit")


def _names(document: Document, *, everything: bool) -> Iterator[CompletionItem]:
    for item in document.declared():
        if isinstance(item, tree.Let):
            yield _item(item.name.text, CompletionItemKind.Variable, f"let = {_brief(item.value.span.text)}", item.doc)
        else:
            yield _item(item.name.text, CompletionItemKind.Variable, "param", item.doc)
    if everything:
        yield from (_item(name, CompletionItemKind.Class, f"{kind} stage") for name, kind in document.stages.items())
        for name, uses in vocabulary().functions.items():
            yield _function(next(iter(uses.values())), name)


def _brief(text: str) -> str:
    return text if len(text) <= 60 and "\n" not in text else f"{text[:57].partition(chr(10))[0]}…"


def _goals(document: Document, here: Context) -> Iterator[CompletionItem]:
    """`sft.eval_loss`: a metric of a stage."""
    if here.before:
        for name in measured.metrics(document, here.before[0]):
            yield _item(name, CompletionItemKind.Property, "metric")
        return
    for stage, kind in document.stages.items():
        for name in measured.metrics(document, stage) if kind not in ("data", "shell") else ():
            yield _item(f"{stage}.{name}", CompletionItemKind.Property, f"metric of a {kind} stage")


def _parts_of(document: Document, here: Context) -> Iterator[CompletionItem]:
    """After a dot: the splits of a data stage, the result of another."""
    kind = document.stages.get(here.before[0])
    if kind == "data" and len(here.before) == 1:
        yield from (_item(split, CompletionItemKind.Property, "split") for split in _SPLITS)
    elif kind is not None and len(here.before) == 1:
        yield _item("path", CompletionItemKind.Property, "the folder of its result")
    elif here.before == ("search",):
        yield _item("best", CompletionItemKind.Property, "the best trial")


# --- in strings


def _in_text(document: Document, here: Context) -> Iterator[CompletionItem]:
    if here.call in ("exact", "code") or (here.kind == "data" and here.path == ("columns",)):
        for name in measured.columns(document, here.stage):
            yield _item(name, CompletionItemKind.Field, "column of the rows")
        return
    if here.call in ("hf", "modelscope", "scratch") and here.definition is not None:
        yield from _models(quoted=False)
        return
    if hole := re.search(r"\{(\w+)\.\w*$", here.text or ""):
        if hole[1] in document.stages:
            written = f"{(here.text or '')[: hole.start()]}{{{hole[1]}.path}}"
            yield _item(written, CompletionItemKind.Property, "the folder of its result")
        return
    opened = (here.text or "").rfind("{")
    if opened >= 0 and "}" not in (here.text or "")[opened:]:
        written = (here.text or "")[: opened + 1]
        names = [*document.stages, "name", "run", "stage", *(item.name.text for item in document.declared())]
        for name in dict.fromkeys(names):
            yield _item(f"{written}{name}}}", CompletionItemKind.Variable)


def _models(*, quoted: bool) -> Iterator[CompletionItem]:
    for name, sizes in catalog.models().items():
        ids = sizes.get("hub") or [name]
        for hub in [ids] if isinstance(ids, str) else ids:
            insert = f'hf("{hub}")' if quoted else hub
            yield _item(insert, CompletionItemKind.Value, "model of the catalogue")


def _files(document: Document, here: Context) -> Iterator[CompletionItem]:
    """Names in the folder that was typed so far, seen from the recipe; hidden ones are left out."""
    typed = here.text or ""
    folder = typed.rpartition("/")[0]
    if here.mode == "include" and here.text is None:
        return
    base = document.path.parent / folder if not folder.startswith("/") else Path(folder)
    for path in document.session_files().glob(base, "*")[:MANY]:
        name = f"{folder}/{path.name}" if folder else path.name
        is_folder = document.session_files().is_dir(path)
        if path.name.startswith(".") or (here.mode == "include" and not is_folder and path.suffix != ".ft"):
            continue
        kind = CompletionItemKind.Folder if is_folder else CompletionItemKind.File
        yield _item(f"{name}/" if is_folder else name, kind)
