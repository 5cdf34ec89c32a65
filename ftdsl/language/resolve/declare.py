"""The declarations of a recipe (stages, shared keys, templates, the search), and the edits of profiles and `--set`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field

from ftdsl.catalog.vocabulary import TRAINING, vocabulary
from ftdsl.diagnostics import Label, Sink
from ftdsl.diagnostics.suggest import closest
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.language.resolve import keys
from ftdsl.language.resolve.flatten import Flattener, check
from ftdsl.language.resolve.layers import Entry, Layer
from ftdsl.language.resolve.load import Module
from ftdsl.language.values import OriginKind
from ftdsl.record import frozen, mutable, replace
from ftdsl.session import Session
from ftdsl.source import Source

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@frozen
class Declared:
    """A declared stage, unevaluated."""

    name: str
    kind: str
    block: tree.Block
    module: Module
    entries: tuple[Entry, ...]


@mutable
class Declarations:
    stages: dict[str, Declared] = field(default_factory=dict)
    shared: list[Layer] = field(default_factory=list)
    templates: dict[str, tuple[tree.Block, tuple[Entry, ...]]] = field(default_factory=dict)
    search: tuple[tree.Block, tuple[Entry, ...]] | None = None
    doc: str = ""


def declare(module: Module, session: Session) -> Declarations:
    """Collect the declarations of a recipe and its plain includes; the recipe's own win."""
    declarations = Declarations(doc=module.file.doc)
    for file in module.layers:
        kind: OriginKind = "file" if file is module.file else "include"
        items: list[tree.Item] = []
        for item in file.items:
            if not isinstance(item, tree.Block):
                if isinstance(item, tree.Bind):
                    items.append(item)
            elif not _declaration(item, module, declarations, session):
                items.append(item)
        shared = check(Flattener(kind, module).entries(items), "file", session.sink)
        declarations.shared.append(Layer("", tuple(shared)))
    return declarations


def _declaration(block: tree.Block, module: Module, declarations: Declarations, session: Session) -> bool:
    """Record a block that declares something; False for a shared block."""
    word = block.kind.text
    if word == "profile":
        return True
    if word == "search":
        if declarations.search is not None:
            session.sink.error("FT006", "`search` is set twice", block.kind.span, help="write all of it in one block")
            return True
        declarations.search = (block, _checked(block, "search", module, session))
        return True
    if word == "template":
        _template(block, module, declarations, session)
        return True
    if not keys.is_stage_kind(word):
        return _not_a_stage(block, session)
    _stage(block, module, declarations, session)
    return True


def _checked(block: tree.Block, kind: str, module: Module, session: Session) -> tuple[Entry, ...]:
    return tuple(check(Flattener("stage", module).entries(block.body), kind, session.sink))


def _template(block: tree.Block, module: Module, declarations: Declarations, session: Session) -> None:
    if block.label is None:
        session.sink.error("FT046", "a template needs a name", block.kind.span, help="write `template house { … }`")
        return
    declarations.templates[block.label.text] = (block, _checked(block, "template", module, session))


def _not_a_stage(block: tree.Block, session: Session) -> bool:
    """Whether a block that is not a stage was reported; False for a shared block, which has neither label nor parents."""
    from ftdsl.catalog.vocabulary import vocabulary

    word = block.kind
    if word.text in keys.blocks("file") and not (block.label or block.parents):
        return False
    if word.text in keys.blocks("file"):
        session.sink.error("FT046", f"`{word.text}` at file level takes no name: all stages share it", block.header)
        return True
    guess = closest(word.text, [*vocabulary().stage_kinds, *keys.blocks("file"), "profile", "search", "template"])
    label = f"did you mean `{guess}`?" if guess else ""
    if word.text in keys.blocks("sft"):
        text, help = f"`{word.text}` must be inside a stage", f"write `sft {{ {word.text} {{ … }} }}`"
        session.sink.error("FT005", text, word.span, help=help)
    else:
        kinds = ", ".join(vocabulary().stage_kinds)
        session.sink.error(
            "FT620", f"unknown stage or block `{word.text}`", word.span, label=label, help=f"stages: {kinds}"
        )
    return True


def _stage(block: tree.Block, module: Module, declarations: Declarations, session: Session) -> None:
    label = block.label or block.kind
    if not _NAME.fullmatch(label.text):
        session.sink.error(
            "FT046",
            f"`{label.text}` is not a valid name of a stage",
            label.span,
            help="use letters, digits and `_`, starting with a letter",
        )
        return
    before = declarations.stages.get(label.text)
    if before and before.block.span.source is block.span.source:
        first = Label(before.block.header, "first used here")
        help = f"write `{block.kind.text} other {{ … }}`"
        session.sink.error("FT006", f"two stages are named `{label.text}`", label.span, labels=(first,), help=help)
        return
    entries = _checked(block, block.kind.text, module, session)
    declarations.stages[label.text] = Declared(label.text, block.kind.text, block, module, entries)


# --- edits


def profile_edits(module: Module, declarations: Declarations, session: Session) -> dict[int, list[Layer]]:
    """The edits of each profile, by the id of its block. All profiles are checked, selected or not."""
    edits: dict[int, list[Layer]] = {}
    for name, block in module.profiles.items():
        for parent in block.parents:
            if module.profile(parent.span.text) is None:
                _unknown_profile(parent.span.text, module, session, parent)
        edits[id(block)] = _edits(block.body, "profile", f"profile {name}", module, declarations, session)
    return edits


def profile_layers(name: str, module: Module, edits: Mapping[int, list[Layer]]) -> list[Layer]:
    """The edits of a profile, after those of its parents."""
    chain: dict[int, None] = {}
    todo = deque([name])
    while todo:
        block = module.profile(todo.popleft())
        if block is not None and id(block) not in chain:
            chain[id(block)] = None
            todo += [parent.span.text for parent in block.parents]
    return [layer for block in reversed(chain) for layer in edits.get(block, ())]


def _unknown_profile(name: str, module: Module, session: Session, at: tree.Ref | None) -> None:
    guess = closest(name, module.profiles)
    label = f"did you mean `{guess}`?" if guess else ""
    help = f"profiles here: {', '.join(module.profiles)}" if module.profiles else "this recipe has no profiles"
    session.sink.error("FT080", f"unknown profile `{name}`", at.span if at else None, label=label, help=help)


def check_profile(name: str, module: Module, session: Session) -> bool:
    """Whether a profile exists (`laptop`, or `site.laptop` of an include); if not, it is reported."""
    exists = module.profile(name) is not None
    if not exists:
        _unknown_profile(name, module, session, None)
    return exists


def set_layers(texts: Sequence[str], module: Module, declarations: Declarations, session: Session) -> list[Layer]:
    """`--set optim.lr=1e-5` (shared) and `--set sft.optim.lr=1e-5` (one stage)."""
    layers: list[Layer] = []
    for text in texts:
        file = parse(Source(f"--set {text}", text), session.sink)
        if file.items and not all(isinstance(item, tree.Bind) for item in file.items):
            session.sink.error(
                "FT036", f"`--set {text}` is not an assignment", None, help="write `--set optim.lr=1e-5`"
            )
            continue
        layers += _edits(file.items, "set", "--set", module, declarations, session)
    return layers


def _edits(
    items: Sequence[tree.Item], kind: str, via: str, module: Module, declarations: Declarations, session: Session
) -> list[Layer]:
    layers: list[Layer] = []
    alone = not declarations.stages or any(item.span.source is not module.file.source for item in items)
    flat = Flattener("profile" if kind == "profile" else "set", module, via)
    for item in items:
        word = (
            item.key[0].text if isinstance(item, tree.Bind) else item.kind.text if isinstance(item, tree.Block) else ""
        )
        stage = declarations.stages.get(word)
        if stage is None or (
            isinstance(item, tree.Bind) and len(item.key) == 1 and item.binder is not tree.Binder.FIXED
        ):
            if kind == "profile" and alone and (kinds := _kinds_named(item, word)):
                entries_elsewhere = _check_elsewhere(item, kinds, flat, session)
                if kinds == (word,):  # of a stage that is called as its kind
                    layers.append(Layer(word, entries_elsewhere))
                continue
            layers.append(Layer("", tuple(check(flat.entries([item]), "file", session.sink))))
            continue
        inside = item.body if isinstance(item, tree.Block) else [item]
        entries = [*flat.entries(inside)]
        if isinstance(item, tree.Bind):
            entries = [_below(entry) for entry in entries if len(entry.path) > 1]
        layers.append(Layer(word, tuple(check(entries, stage.kind, session.sink))))
    return layers


def _kinds_named(item: tree.Item, word: str) -> tuple[str, ...]:
    """The possible kinds of a stage that a profile edits but its file does not contain (the recipe that includes it does)."""
    if keys.is_stage_kind(word):
        return (word,)
    inside = isinstance(item, tree.Block) or (isinstance(item, tree.Bind) and len(item.key) > 1)
    training_first = sorted(vocabulary().stage_kinds, key=lambda kind: kind not in TRAINING)
    return tuple(training_first) if inside and keys.find("file", (word,)) is None else ()


def _check_elsewhere(item: tree.Item, kinds: tuple[str, ...], flat: Flattener, session: Session) -> tuple[Entry, ...]:
    """Check edits of a stage of another file against the possible kinds; report the kind with the fewest diagnostics. Returns:
    the edits whose keys are right.
    """
    entries = list(flat.entries(item.body if isinstance(item, tree.Block) else [item]))
    if isinstance(item, tree.Bind):
        entries = [_below(entry) for entry in entries if len(entry.path) > 1]
    attempts = []
    for kind in kinds:
        attempt = Sink()
        attempts.append((attempt, tuple(check(entries, kind, attempt))))
    problems, right = min(attempts, key=lambda attempt: len(attempt[0]))
    for problem in problems:
        session.sink.add(problem)
    return right


def _below(entry: Entry) -> Entry:
    """The entry without the leading name of the stage."""
    return replace(entry, path=entry.path[1:])
