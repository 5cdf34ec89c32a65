"""Columns of a data set: which a stage needs, which its rows lack, and which they suggest."""

from __future__ import annotations

from collections.abc import Mapping

from ftdsl.lint.config import Dataset

_USUAL = {
    "prompt": ("instruction", "prompt", "question", "query", "text", "content", "input", "q"),
    "response": ("output", "response", "answer", "completion", "target", "reply", "label", "a"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns"),
    "chosen": ("chosen", "better", "good", "accepted", "preferred", "positive"),
    "rejected": ("rejected", "worse", "bad", "dispreferred", "negative"),
    "kto_tag": ("label", "kto_tag", "desirable"),
}
"""Part -> what its column is usually called."""


def suggested(dataset: Dataset, entry: Mapping[str, object], stage: str) -> str:
    """The `columns` that the rows suggest, with `…` where they suggest none."""
    have = {name.casefold(): name for name in dataset.columns if isinstance(name, str)}
    given = entry.get("columns")
    given = given if isinstance(given, Mapping) else {}
    chat = entry.get("formatting", "alpaca") != "alpaca"
    as_chat = (
        not chat
        and not any(name in have for name in ("instruction", "prompt", "question"))
        and any(name in have for name in ("messages", "conversations"))
    )
    needed = ("messages",) if chat or as_chat else _NEEDED.get(stage, ("prompt",))
    needed = (*needed, *(("chosen", "rejected") if entry.get("ranking") else ()))
    named = {part: name for part, name in given.items() if name in dataset.columns}
    for part in needed:
        free = [name for name in _USUAL[part] if name in have and have[name] not in named.values()]
        named.setdefault(part, have[free[0]] if free else "…")
    columns = ", ".join(f'"{part}": "{name}"' for part, name in named.items())
    return f'{chr(34)}formatting": "sharegpt", ' * as_chat + f'"columns": {{{columns}}}'


_DEFAULT_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
_NEEDED = {
    "pt": ("prompt",),
    "sft": ("prompt", "response"),
    "kto": ("prompt", "response", "kto_tag"),
    "ppo": ("prompt",),
}


def lacking(dataset: Dataset, entry: Mapping[str, object], stage: str) -> list[str]:
    """Columns that a stage reads, by their names in the entry, and that the first row lacks; none if no row is available."""
    columns = entry.get("columns", _DEFAULT_COLUMNS)
    if not dataset.columns or not isinstance(columns, Mapping):
        return []
    needed = ("messages",) if entry.get("formatting", "alpaca") != "alpaca" else _NEEDED.get(stage, ("prompt",))
    needed = (*needed, *(("chosen", "rejected") if entry.get("ranking") else ()))
    names = [columns[part] for part in needed if isinstance(columns.get(part), str)]
    missing = [name for name in names if name not in dataset.columns]
    parts = _CHAT_READ if entry.get("formatting", "alpaca") != "alpaca" else _ALPACA_READ
    optional = [columns[part] for part in parts if isinstance(columns.get(part), str)]
    present = {name for look in dataset.looks for name in look.columns}
    if dataset.looks and all(look.is_whole or look.rows >= _MANY for look in dataset.looks):
        missing += [name for name in optional if name not in present and name not in missing]
    return missing


_CHAT_READ = ("system", "tools", "images", "videos", "audios", "kto_tag")
_ALPACA_READ = ("query", "history", *_CHAT_READ)
"""Parts that the engine looks up in every row once they have a column, `input` by default (llamafactory/data/converter.py)."""
_MANY = 100
"""Rows after which a column that none of them has is taken to be missing in all."""
