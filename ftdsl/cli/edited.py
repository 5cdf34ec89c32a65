"""A recipe's text with keys of a stage set: what `--apply` of several verbs writes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


def edited(path: Path, text: str, stage: str, edits: Iterable[tuple[str, str]]) -> str | None:
    """The recipe's text with each key set in the stage's own block; one edit at a time, since each moves the rest. None, and
    reported, where the stage is in an included file.
    """
    from ftdsl.diagnostics import Sink
    from ftdsl.language import tree
    from ftdsl.language.edit import setting
    from ftdsl.language.parser import parse
    from ftdsl.source import Source

    for key, value in edits:
        file = parse(Source(path.as_posix(), text), Sink())
        block = next((b for b in file.items if isinstance(b, tree.Block)
                      and (b.label or b.kind).text == stage), None)  # fmt: skip
        if block is None:
            print(f"error: `{stage}` is not in {path} itself, but in an included file", file=sys.stderr)
            return None
        for edit in setting(block, key.split("."), value):
            text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text
