"""`ftc explain lora.rank`: a key or block of the language, without a recipe: what it takes, its default, what it becomes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

from ftdsl.engines.reference import BlockEntry, KeyEntry

WIDTH = 100


def explain_key(entries: Sequence[KeyEntry | BlockEntry], *, json_too: bool = False) -> int:
    """Print what a name of the language means. Exit 0."""
    if json_too:
        documents = [entry.as_json() for entry in entries]
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, ensure_ascii=False))
    else:
        print(
            "\n\n".join("\n".join(_key(entry) if isinstance(entry, KeyEntry) else _block(entry)) for entry in entries)
        )
    return 0


def _key(entry: KeyEntry) -> Iterator[str]:
    yield f"{entry.path}  ({entry.where})"
    yield from textwrap.wrap(entry.about, WIDTH, initial_indent="  ", subsequent_indent="  ") if entry.about else ()
    yield f"  takes    {entry.takes}" + (f", {entry.bounds}" if entry.bounds else "")
    if entry.members:
        yield from textwrap.wrap(
            ", ".join(entry.members), WIDTH, initial_indent="  members  ", subsequent_indent="           "
        )
    if entry.default:
        yield f"  default  {entry.default}"
    for engine, targets in entry.becomes.items():
        own = entry.engine_defaults.get(engine)
        suffix = f"; {engine}'s own default: {own}" if own else ""
        yield f"  becomes  {', '.join(targets)} in {engine}{suffix}"
    yield f"  example  {entry.example}"


def _block(entry: BlockEntry) -> Iterator[str]:
    yield f"{entry.name} {{ }}" + (f"  (in {', '.join(entry.where)})" if entry.where else "")
    yield from textwrap.wrap(entry.about, WIDTH, initial_indent="  ", subsequent_indent="  ") if entry.about else ()
    if entry.open:
        yield "  takes any key"
    width = max((len(key.path) for key in entry.keys), default=0)
    for key in entry.keys:
        yield f"  {key.path:<{width}}  {key.takes}" + (f"; default {key.default}" if key.default else "")
