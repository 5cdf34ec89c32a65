"""The tree of a recipe: keys in the order people read them, short blocks on one line, remarks behind what they are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import field
from textwrap import wrap
from typing import Any

from ftdsl.catalog.vocabulary import Key, vocabulary
from ftdsl.importers.draft import Axis, Note
from ftdsl.importers.values import ANY, expression
from ftdsl.language import tree
from ftdsl.language.printing import NOWHERE, WIDTH, Margin, UnwritableError, bind, block, param, recipe_text, ref, text
from ftdsl.language.resolve.keys import find
from ftdsl.language.values import Term
from ftdsl.recipe.settings import METHODS
from ftdsl.record import mutable, replace

_FIRST = (
    "engine",
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
"""The kind of a `Text` whose keys are at file level."""
_SHARED = ("hardware", "launch", "env")


@mutable
class Text:
    """A stage to be written: its engine, its head (`dpo prefs from sft`), its keys, blocks to open even when empty, remarks."""

    engine: str
    kind: str
    name: str
    parents: Sequence[str]
    values: dict[str, Any]
    blocks: set[str]
    remarks: Mapping[str, str]
    passed: Mapping[str, Any]
    notes: Sequence[Note] = ()


@mutable
class _Page:
    """Items so far, and the comments about them."""

    items: list[tree.Item] = field(default_factory=list)
    margins: dict[tree.Item, Margin] = field(default_factory=dict)
    head: list[str] = field(default_factory=list)

    def put(self, item: tree.Item, **margin: Any) -> None:
        self.items.append(item)
        self.about(item, **margin)

    def about(self, item: tree.Item, **margin: Any) -> None:
        self.margins[item] = replace(self.margins.get(item, Margin()), **margin)


def recipe(head: Sequence[str], name: str, stages: Sequence[Text], holes: Mapping[str, str]) -> str:
    """The whole text, formatted. `head`: lines of comment at the top; `holes`: parameters to ask for, with their type.

    Raises: UnwritableError for a value that cannot be said, ReadBackError when the text reads otherwise than was meant.
    """
    page = _Page(head=list(head))
    page.put(bind(["name"], text(name)))
    page.put(bind(["engine"], ref(stages[0].engine)))
    for stage in stages[1:]:
        if stage.engine != stages[0].engine:
            stage.values = {"engine": Term(stage.engine), **stage.values}
    for at, (hole, kind) in enumerate(holes.items()):
        page.put(param(hole, kind), apart=not at, behind=f"{_question(hole)}: write it here, or -p {hole}=…")
    for shared in _SHARED:
        _put_shared(page, stages, shared)
    for stage in stages:
        _put_stage(page, stage)
    return recipe_text(page.items, page.margins, page.head)


def _question(hole: str) -> str:
    return "nothing named one" if hole in ("base", "rows") else "known only when the script ran"


def _put_shared(page: _Page, stages: Sequence[Text], name: str) -> None:
    """A block at file level, if it is equal in all stages that have it; it is removed from them."""
    owners = [stage for stage in stages if any(key.startswith(f"{name}.") for key in stage.values)]
    draft = [{k: v for k, v in stage.values.items() if k.startswith(f"{name}.")} for stage in owners]
    if not draft or any(block_of_stage != draft[0] for block_of_stage in draft):
        return
    page.put(_block(page, name, draft[0], owners[0].remarks, owners[0].kind), apart=True)
    for stage in owners:
        stage.values = {k: v for k, v in stage.values.items() if k not in draft[0]}


def _put_stage(page: _Page, stage: Text) -> None:
    """A stage in braces; what belongs to no stage is at file level, as every stage's default."""
    notes = tuple(_not_carried(stage.notes))
    body = _body(page, stage)
    if stage.kind != SHARED:
        name = stage.name if stage.name != stage.kind else ""
        page.put(block(stage.kind, body, name, stage.parents), apart=True, inside=notes)
        return
    for at, item in enumerate(body):
        page.put(item, **({"above": notes, "apart": True} if not at else {}))
    if not body:
        page.head += notes


def _not_carried(notes: Sequence[Note]) -> Iterator[str]:
    for note in notes:
        if not note.carried:
            line = f" (line {note.span.source.position(note.span.start)[0]})" if note.span else ""
            yield from wrap(f"not carried: {note.word}{line}: {note.text}", WIDTH)


def _body(page: _Page, stage: Text) -> list[tree.Item]:
    items: list[tree.Item] = []
    for key in _keys(stage):
        items.append(_bind(page, key, stage.values[key], stage.remarks, stage.kind))
    opened = dict.fromkeys(key.partition(".")[0] for key in stage.values if "." in key)
    blocks: list[tree.Item] = []
    for name in [*_BLOCKS, *(name for name in opened if name not in _BLOCKS)]:
        inner = {key: value for key, value in stage.values.items() if key.startswith(f"{name}.")}
        if inner or name in stage.blocks:
            blocks.append(_block(page, name, inner, stage.remarks, stage.kind))
    if blocks:
        page.about(blocks[0], apart=True)
    if stage.passed:
        inner = {f"{stage.engine}.{name}": value for name, value in stage.passed.items()}
        blocks.append(_block(page, stage.engine, inner, stage.remarks, stage.kind))
        page.about(blocks[-1], apart=True)
    return [*items, *blocks]


def _keys(stage: Text) -> list[str]:
    own = [key for key in stage.values if "." not in key]
    known = vocabulary().keys_of("sft" if stage.kind == SHARED else stage.kind)
    order = {name: at for at, name in enumerate(known)}
    order |= {name: 1000 + at for at, name in enumerate(_LAST)}
    order = {**order, **{name: at - 100 for at, name in enumerate(_FIRST)}}
    return sorted(own, key=lambda key: order.get(key, 500))


def _block(page: _Page, name: str, values: Mapping[str, Any], remarks: Mapping[str, str], kind: str) -> tree.Block:
    known = list(vocabulary().block(name).keys)
    keys = sorted(values, key=lambda key: known.index(own) if (own := key.partition(".")[2]) in known else 99)
    own_keys = frozenset(key.partition(".")[2] for key in keys)
    return block(name, [_bind(page, key, values[key], remarks, kind, key.partition(".")[2], own_keys) for key in keys])


def _bind(
    page: _Page,
    key: str,
    value: Any,
    remarks: Mapping[str, str],
    kind: str,
    name: str = "",
    own_keys: Set[str] = frozenset(),
) -> tree.Bind:
    """`own_keys`: of the block it is in, whose names mean their values there."""
    at = key_at(kind, key)
    if isinstance(value, Axis):
        items = tree.ListOf(tuple(expression(axis_value, at) for axis_value in value.items), NOWHERE)
        item = bind((name or key).split("."), items, tree.Binder.SWEPT)
    else:
        item = bind((name or key).split("."), _expression(value, at, own_keys))
    if key in remarks:
        page.about(item, behind=remarks[key])
    return item


def _expression(value: Any, at: Key, own_keys: Set[str]) -> tree.Expression:
    """A value; a text that is the name of a key beside it in quotes (`log_level = "debug"` below `debug = …`)."""
    if isinstance(value, str) and value in own_keys and at.type == ANY.type:
        return text(value)
    items = value if isinstance(value, list) and at.type == ANY.type else []
    if any(isinstance(item, str) and item in own_keys for item in items):
        return tree.ListOf(tuple(_expression(item, at, own_keys) for item in value), NOWHERE)
    return expression(value, at)


def key_at(kind: str, key: str) -> Key:
    """The vocabulary's entry of a key in a stage of a kind; any value for an unknown key."""
    known = find(kind, tuple(key.split(".")))
    return known if isinstance(known, Key) else ANY


def why_not(kind: str, key: str, value: Any) -> str:
    """Why a key cannot have a value in a recipe; "" when it can."""
    try:
        for item in value.items if isinstance(value, Axis) else (value,):
            bind(key.split("."), expression(item, key_at(kind, key)))
    except UnwritableError as error:
        return str(error)
    return ""
