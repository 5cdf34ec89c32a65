"""The reference of the language: every block and key, what it takes, its default, and what each engine gets for it.

Given the vocabulary and the engines' overlays; gives records for `ftc explain KEY`, docs/reference.md and editors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftdsl import catalog
from ftdsl.catalog import foreign
from ftdsl.catalog.vocabulary import ANY_NAME, STAGE_KINDS, TRAINING, Function, Key, vocabulary
from ftdsl.engines import registry
from ftdsl.engines.shared.overlay import entries
from ftdsl.language.types import describe, parse_type
from ftdsl.record import frozen

GROUPS = ("train", "dpo", "kto", "ppo", "grpo", "distill", "data", "eval", "merge", "stage_quantize", "shell")
"""Tables of keys of a stage outside its blocks."""

_NAMES = {"train": "every training stage", "stage_quantize": "quantize", "file": "the file"}
_PREFIXES = {"ds.": "DeepSpeed", "acc.": "accelerate", "env.": "the environment", "mca.": "Megatron",
             "info.": "dataset_info.json", "cli.": "the command line", "runtime.": "the runtime"}  # fmt: skip


@frozen
class KeyEntry:
    """A key. path: `lora.rank`, `duration`; where: stages or blocks that have it; takes: its type as text; bounds: `1 or more`;
    default: what counts when it is not set, "" where nothing does; members: names it takes; becomes: engine -> parameters;
    engine_defaults: engine -> its own default; example: a line of a recipe.
    """

    path: str
    where: str
    takes: str
    bounds: str
    default: str
    members: tuple[str, ...]
    about: str
    becomes: Mapping[str, tuple[str, ...]]
    engine_defaults: Mapping[str, str]
    example: str

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__match_args__}


@frozen
class BlockEntry:
    """A block or kind of stage, with its keys."""

    name: str
    about: str
    where: tuple[str, ...]
    keys: tuple[KeyEntry, ...]
    open: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "about": self.about,
            "where": list(self.where),
            "keys": [key.path for key in self.keys],
        }


def blocks() -> Iterator[BlockEntry]:
    """All blocks in the order of the vocabulary."""
    language = vocabulary()
    for name in language.block_names():
        block = language.block(name)
        keys = tuple(_entry(name, key) for key in block.keys.values())
        yield BlockEntry(name, block.about, tuple(sorted(block.contexts)), keys, block.open)


def find(text: str) -> list[KeyEntry | BlockEntry]:
    """What a name can mean: a block or kind of stage (`lora`, `sft`), a key (`lora.rank`, `duration`), a key by its last name
    alone (`rank`: of every block that has one), a parameter of an engine (`cutoff_len`) or a name of another tool (`epochs`):
    the keys that set it.
    """
    every = list(blocks())
    exact: list[KeyEntry | BlockEntry] = [block for block in every if text == _shown_name(block.name)]
    exact += [_stage_entry(text)] if text in STAGE_KINDS and not exact else []
    keys = [key for block in every for key in block.keys]
    exact += [key for key in keys if key.path == text]
    parent, _, name = text.rpartition(".")
    if not exact and parent in STAGE_KINDS:  # `sft.duration`
        exact += [key for key in keys if key.path == name and name in vocabulary().keys_of(parent)][:1]
    named = exact or [key for key in keys if key.path.rpartition(".")[2] == text]
    return named or _of_parameter(text, keys)


def _of_parameter(name: str, keys: Sequence[KeyEntry]) -> list[KeyEntry | BlockEntry]:
    """The keys that set a parameter of an engine; `use_dora: true` is a member of `lora.variant`."""
    own = [
        key
        for key in keys
        if any(name == to.rpartition(".")[2].partition(" ")[0] for tos in key.becomes.values() for to in tos)
    ]
    if own:
        return list(own)
    meaning = foreign.meant(name)
    path = "" if meaning is None else meaning.word or foreign.word_of(meaning.parameter)
    return [key for key in keys if key.path == path]


def names() -> list[str]:
    """Everything `find` knows, for suggestions and completion."""
    every = list(blocks())
    keys = [key.path for block in every for key in block.keys]
    return list(dict.fromkeys([*STAGE_KINDS, *(_shown_name(block.name) for block in every), *keys]))


def _stage_entry(kind: str) -> BlockEntry:
    """A kind of stage without a table of its own: `sft` has the keys of every training stage."""
    keys = tuple(_entry("train", key) for key in vocabulary().keys_of(kind).values())
    return BlockEntry(
        kind, f"A stage: the keys of every training stage, and blocks ({_blocks_of(kind)}).", ("file",), keys
    )


def _blocks_of(kind: str) -> str:
    return ", ".join(block.name for block in vocabulary().blocks_in(kind))


def _shown_name(name: str) -> str:
    return {"stage_quantize": "quantize stage"}.get(name, name)


def _entry(block: str, key: Key) -> KeyEntry:
    path = key.name if block in (*GROUPS, "file") else f"{block}.{key.name}"
    becomes, defaults = {}, {}
    for engine in catalog.known_engines():
        target = registry.get(engine)
        entry = _overlay_entry(engine, block, path)
        if target is None or entry is None:
            continue
        becomes[target.title] = tuple(_target(to) for to in entry.get("to", ()))
        if entry.get("engine"):
            defaults[target.title] = str(entry["engine"])
    about = key.doc.removeprefix("* ")
    where = _NAMES.get(block) or ("a `data` stage, or a source" if key.doc.startswith("*") else f"`{block}`")
    return KeyEntry(
        path, where, describe(parse_type(key.type)), _bounds(key), key.default or key.auto, _members(key), about, becomes,
        defaults, _example(block, key),
    )  # fmt: skip


def _overlay_entry(engine: str, block: str, path: str) -> Mapping[str, Any] | None:
    kind = block if block in STAGE_KINDS else "quantize" if block == "stage_quantize" else "sft"
    return dict(entries(engine, kind)).get(path)


def _target(to: str) -> str:
    """`lora_rank`; `zero_optimization.stage (DeepSpeed)`; what no table says is worked out."""
    name = to.partition(":")[0]
    if name == "own":
        return "worked out"
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return f"{name.removeprefix(prefix)} ({_PREFIXES[prefix]})" if prefix else name


def _bounds(key: Key) -> str:
    parts = [
        f"{key.min:g} or more" if key.min is not None else "",
        f"above {key.above:g}" if key.above is not None else "",
        f"at most {key.max:g}" if key.max is not None else "",
        f"below {key.below:g}" if key.below is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _members(key: Key) -> tuple[str, ...]:
    """Members with their options: `pissa(iterations, convert)`; of a catalogue its size, where it is long."""
    shown = []
    for name, member in (key.members or {}).items():
        if name != ANY_NAME:
            shown.append(f"{name}({', '.join(member.options)})" if member.options else name)
    if key.catalog:
        listed = catalog.names(key.catalog)
        shown += listed if len(listed) <= 40 else [f"… {len(listed)} {key.catalog}"]
    return tuple(shown)


def _example(block: str, key: Key) -> str:
    text = f"{key.name} = {key.example}"
    if block == "file":
        return text
    if block in GROUPS:
        kind = {"train": "sft", "stage_quantize": "quantize"}.get(block, block)
        return f"{kind} {{ {text} }}"
    return f"{block} {{ {text} }}"


def functions() -> Iterator[Function]:
    """Functions that give a value: `hf("org/name")`, by what they are used for."""
    for uses in vocabulary().functions.values():
        yield from uses.values()


__all__ = ["TRAINING", "BlockEntry", "KeyEntry", "blocks", "find", "functions", "names"]
