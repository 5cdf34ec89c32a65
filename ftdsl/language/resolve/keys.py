"""The keys and blocks that a stage can have: the vocabulary by path (`optim.lr`) and kind of stage."""

from __future__ import annotations

from functools import cache, lru_cache

from ftdsl.catalog.vocabulary import BlockWords, Key, vocabulary
from ftdsl.diagnostics.suggest import closest

Path = tuple[str, ...]

FILE_KEYS = ("name", "engine", "seed", "budget", "target")
"""Keys and blocks of the file itself; others at file level are shared by the stages that can have them."""


DECLARATIONS = ("search", "template")
"""Blocks at file level that are neither stages nor shared."""


@lru_cache(maxsize=4096)
def find(kind: str, path: Path) -> Key | BlockWords | None:
    """The definition of `path` in a stage of `kind` ("file": shared, or of the file itself); None if unknown."""
    if not path:
        return None
    key, block = keys_of(kind).get(path[0]), blocks(kind).get(path[0])
    definition: Key | BlockWords | None = (block or key) if len(path) > 1 else (key or block)
    for word in path[1:]:
        if not isinstance(definition, BlockWords):
            return None
        if definition.open:
            return Key(name=word, type=definition.open, empty=True)
        definition = definition.keys.get(word) or blocks(definition.name).get(word)
    return definition


@cache
def keys_of(kind: str) -> dict[str, Key]:
    """The keys of a stage kind; for "file": its own, and those of all stage kinds."""
    vocab = vocabulary()
    if kind in DECLARATIONS:
        return dict(vocab.block(kind).keys)
    if kind != "file":
        return dict(vocab.keys_of(kind)) if kind in vocab.stage_kinds else {}
    shared = {name: key for stage in vocab.stage_kinds for name, key in vocab.keys_of(stage).items()}
    return {**shared, **vocab.block("file").keys}


@cache
def blocks(context: str) -> dict[str, BlockWords]:
    """The blocks allowed in a context: a stage kind, "file", or a block (`launch` has `runtime_env`)."""
    return {block.name: block for block in vocabulary().blocks_in(context)}


@cache
def methods() -> frozenset[str]:
    """The method blocks, of which a stage has at most one: `lora`, `full`, …"""
    return frozenset(name for name, block in blocks("sft").items() if block.method)


def fits(kind: str, path: Path, *, block: bool) -> bool:
    """Whether `path` is allowed in a stage of `kind` as a block (else as a key); at file level a word can be both."""
    if block and len(path) == 1 and path[0] in blocks(kind):
        return True
    definition = find(kind, path)
    return definition is not None and (block is isinstance(definition, BlockWords))


def is_stage_kind(word: str) -> bool:
    return word in vocabulary().stage_kinds


def near(kind: str, word: str, within: BlockWords | None = None) -> str | None:
    """The key or block allowed here that is closest to `word`."""
    names = [*within.keys, *blocks(within.name)] if within else [*keys_of(kind), *blocks(kind)]
    return closest(word, names)


def homes(kind: str, word: str) -> list[str]:
    """The blocks of `kind` with a key of this name: `lr` is in `optim`."""
    return [name for name, block in blocks(kind).items() if word in block.keys and not block.open]


def kinds_with(word: str) -> list[str]:
    """Stage kinds in which `word` is a key or block."""
    return [kind for kind in vocabulary().stage_kinds if word in keys_of(kind) or word in blocks(kind)]
