"""The text of a recipe: keys in the order people read them, short blocks on one line, remarks behind what they are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from ftdsl.catalog.vocabulary import Key, vocabulary
from ftdsl.importers.said import Note
from ftdsl.importers.values import ANY, quoted, written
from ftdsl.language.format import FormatError, format_text
from ftdsl.language.resolve.words import find
from ftdsl.recipe.settings import METHODS
from ftdsl.record import mutable
from ftdsl.source import Source

WIDTH = 108
_FIRST = (
    "model",
    "reward",
    "template",
    "system",
    "data",
    "mix",
    "limit",
    "max_len",
    "packing",
    "duration",
    "precision",
)
_LAST = ("seed", "resume", "to", "push")
_BLOCKS = (*METHODS, "quantize", "optim", "batch", "parallel", "memory", "evaluate", "save", "track", "loader", "tokenizer",
           "media", "guard", "generate")  # fmt: skip
SHARED = "file"
"""The kind of a `Text` whose words stand at file level."""
_SHARED = ("hardware", "launch", "env")


@mutable
class Text:
    """A stage to be written: its head (`dpo prefs from sft`), its words, blocks to open even when empty, remarks."""

    kind: str
    name: str
    parents: Sequence[str]
    values: dict[str, Any]
    blocks: set[str]
    remarks: Mapping[str, str]
    passed: Mapping[str, Any]
    notes: Sequence[Note] = ()
    doc: str = ""


def recipe(head: Sequence[str], name: str, stages: Sequence[Text], holes: Mapping[str, str]) -> str:
    """The whole text, formatted. `head`: lines of comment at the top; `holes`: parameters to ask for, with their type."""
    lines = [f"# {line}".rstrip() for line in head]
    lines += ["", f"name = {quoted(name)}", "engine = llamafactory", ""]
    lines += [
        f"param {hole}: {kind} # nothing named one: write it here, or -p {hole}=…" for hole, kind in holes.items()
    ]
    lines.append("")
    for block in _SHARED:
        lines += _shared(stages, block)
    for stage in stages:
        lines += ["", *_stage(stage)]
    text = "\n".join(lines).strip() + "\n"
    try:
        return format_text(Source("recipe.ft", text)) or text
    except FormatError:  # as it was written is no worse a recipe
        return text


def _shared(stages: Sequence[Text], block: str) -> list[str]:
    """A block at file level, when all stages that have it say the same; it is taken out of them."""
    owners = [stage for stage in stages if any(key.startswith(f"{block}.") for key in stage.values)]
    said = [{k: v for k, v in stage.values.items() if k.startswith(f"{block}.")} for stage in owners]
    if not said or any(one != said[0] for one in said):
        return []
    lines = _block(block, said[0], owners[0].remarks, owners[0].kind)
    for stage in owners:
        stage.values = {k: v for k, v in stage.values.items() if k not in said[0]}
    return [*lines, ""]


def _stage(stage: Text) -> Iterator[str]:
    """A stage in braces; what belongs to no stage stands at file level, as every stage's default."""
    if stage.kind == SHARED:
        yield from (line.removeprefix("  ") for line in _body(stage))
        return
    parts = [stage.kind, *([stage.name] if stage.name != stage.kind else [])]
    parts += [f"from {', '.join(stage.parents)}"] if stage.parents else []
    yield from (f"## {line}" for line in wrap(stage.doc, WIDTH))
    yield f"{' '.join(parts)} {{"
    yield from _body(stage)
    yield "}"


def _body(stage: Text) -> Iterator[str]:
    for note in stage.notes:
        if not note.carried:
            line = f" (line {note.span.source.position(note.span.start)[0]})" if note.span else ""
            yield from (f"  # {row}" for row in wrap(f"not carried: {note.word}{line}: {note.text}", WIDTH))
    for key in _keys(stage):
        yield f"  {_item(key, stage.values[key], stage.remarks, stage.kind)}"
    blocks = dict.fromkeys(key.partition(".")[0] for key in stage.values if "." in key)
    names = [*_BLOCKS, *(block for block in blocks if block not in _BLOCKS)]
    yield ""
    for block in names:
        inner = {key: value for key, value in stage.values.items() if key.startswith(f"{block}.")}
        if inner or block in stage.blocks:
            yield from (f"  {line}" for line in _block(block, inner, stage.remarks, stage.kind))
    if stage.passed:
        yield ""
        inner = {f"llamafactory.{name}": value for name, value in stage.passed.items()}
        yield from (f"  {line}" for line in _block("llamafactory", inner, stage.remarks, stage.kind))


def _keys(stage: Text) -> list[str]:
    own = [key for key in stage.values if "." not in key]
    known = vocabulary().keys_of("sft" if stage.kind == SHARED else stage.kind)
    order = {name: at for at, name in enumerate(known)}
    order |= {name: 1000 + at for at, name in enumerate(_LAST)}
    order = {**order, **{name: at - 100 for at, name in enumerate(_FIRST)}}
    return sorted(own, key=lambda key: order.get(key, 500))


def _block(block: str, values: Mapping[str, Any], remarks: Mapping[str, str], kind: str) -> list[str]:
    known = list(vocabulary().block(block).keys)
    keys = sorted(values, key=lambda key: known.index(name) if (name := key.partition(".")[2]) in known else 99)
    items = [f"{key.partition('.')[2]} = {written(values[key], _word(kind, key))}" for key in keys]
    said = [remarks[key] for key in keys if key in remarks]
    line = f"{block} {{ {', '.join(items)} }}" if items else f"{block} {{}}"
    if len(said) < 2 and len(line) <= WIDTH:
        return [f"{line} # {said[0]}" if said else line]
    body = [f"  {_item(key, values[key], remarks, kind, key.partition('.')[2])}" for key in keys]
    return [f"{block} {{", *body, "}"]


def _item(key: str, value: Any, remarks: Mapping[str, str], kind: str, name: str = "") -> str:
    remark = f" # {remarks[key]}" if key in remarks else ""
    text = f"{name or key} = {written(value, _word(kind, key))}"
    if len(text) > WIDTH and isinstance(value, list | tuple) and len(value) > 1:
        inner = ",\n".join(f"    {written(item, _word(kind, key))}" for item in value)
        text = f"{name or key} = [\n{inner},\n  ]"
    return text + remark


def _word(kind: str, key: str) -> Key:
    found = find(kind, tuple(key.split(".")))
    return found if isinstance(found, Key) else ANY
