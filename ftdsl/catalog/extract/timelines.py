"""Facts of many versions, folded: each name with the versions at which its fact changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Facts = Mapping[str, Any]


def fold(versions: Iterable[tuple[str, Facts]]) -> dict[str, dict[str, Any]]:
    """(version, name -> fact), oldest first -> name -> version -> the fact since that version; null: removed.

    Help texts are left out (they change with every release): `helps` keeps the newest.
    """
    timelines: dict[str, dict[str, Any]] = {}
    now: dict[str, Any] = {}
    for version, facts in versions:
        for name, fact in facts.items():
            bare = _without_help(fact)
            if name not in now or now[name] != bare:
                timelines.setdefault(name, {})[version] = now[name] = bare
        for name in [name for name in now if name not in facts]:
            del now[name]
            timelines[name][version] = None
    return dict(sorted(timelines.items()))


def helps(versions: Iterable[tuple[str, Facts]]) -> dict[str, str]:
    """The newest help text of each name that ever had one."""
    texts: dict[str, str] = {}
    for _, facts in versions:
        texts |= {name: fact["help"] for name, fact in facts.items() if isinstance(fact, dict) and "help" in fact}
    return dict(sorted(texts.items()))


def text_of(head: Mapping[str, Any], names: Mapping[str, Any]) -> str:
    """The committed text: one name per line, for readable diffs."""
    lines = [f'"{key}": {_json(value)},' for key, value in head.items()]
    body = ",\n".join(f"{_json(name)}: {_json(value)}" for name, value in names.items())
    return "{\n" + "\n".join(lines) + '\n"names": {\n' + body + "\n}\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _without_help(fact: Any) -> Any:
    return {key: value for key, value in fact.items() if key != "help"} if isinstance(fact, dict) else fact
