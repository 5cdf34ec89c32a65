"""Fixes of settings in a recipe, YAML or JSON; None if no edit is possible.

A fix is safe if it does not change the run: a rename, or the removal of a setting without effect. It is unsafe if the author
may have meant either of two things (bf16 or fp16, the interval of saving or of evaluation), however likely one is."""

from __future__ import annotations

import json
from typing import Any

from ftdsl.diagnostics import Edit, Fix, Sink
from ftdsl.lint.config import Config, Setting
from ftdsl.source import Span


def put(setting: Setting, text: str, *, safe: bool = False) -> Fix | None:
    """Replace the value by a text."""
    if setting.span is None or setting.key is None:
        return None
    return Fix(f"write `{text}`", (Edit(setting.span, text),), safe)


def rename(setting: Setting, name: str, value: Any = None, *, safe: bool = True) -> Fix | None:
    """Rename the key, and replace the value if one is given. For files of parameters, not for recipes."""
    key = setting.key
    if key is None or setting.span is None or key.text.strip("\"'") != setting.name.rpartition(".")[2]:
        return None
    edits = [Edit(key, json.dumps(name) if key.text.startswith('"') else name)]
    if value is not None:
        edits.append(Edit(setting.span, written(value)))
    return Fix(f"write `{name}`", tuple(edits), safe)


def drop(setting: Setting, *, safe: bool = False) -> Fix | None:
    """Remove the key and its value, with their line if nothing else is on it."""
    if setting.key is None or setting.span is None or setting.key.source is not setting.span.source:
        return None
    span = whole(setting.key.to(setting.span))
    return Fix(f"drop `{setting.word}`", (Edit(span, ""),), safe)


def add(config: Config, beside: Setting, name: str, value: Any, *, safe: bool = False) -> Fix | None:
    """Add a parameter on a new line before an existing one. Not for recipes, where keys belong to blocks."""
    if (
        present := config.settings.get(name)
    ) is not None and present.is_explicit:  # with `null`, which counts as not set
        return put(present, written(value), safe=safe)
    key = beside.key
    if key is None or config.form != "yaml" or "." in beside.name:
        return None
    text = f"{name}: {written(value)}\n{_indent(key)}"
    return Fix(f"add `{name}: {written(value)}`", (Edit(Span(key.source, key.start, key.start), text),), safe)


def say(config: Config, key: str, text: str, *, safe: bool = False) -> Fix | None:
    """Set a key of the recipe in the stage's own block, or add it."""
    if config.form != "recipe" or config.span is None:
        return None
    from ftdsl.language import tree  # only if there is an error
    from ftdsl.language.edit import setting
    from ftdsl.language.parser import parse

    start = config.span.start
    blocks = [item for item in parse(config.span.source, Sink()).items if isinstance(item, tree.Block)]
    block = next((candidate for candidate in blocks if candidate.span.start <= start < candidate.span.end), None)
    edits = setting(block, key.split("."), text) if block is not None else ()
    return Fix(f"write `{key} = {text}`", tuple(edits), safe) if edits else None


def written(value: Any) -> str:
    """A scalar that YAML and JSON read alike."""
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value)


def whole(span: Span) -> Span:
    """The span with its separator: its line, or one comma."""
    text, start, end = span.source.text, span.start, span.end
    line = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", end)
    stop = len(text) if stop < 0 else stop
    before, after = text[line:start], text[end:stop]
    if not before.strip() and (after.strip() in ("", ",") or after.strip().startswith("#")):
        return Span(span.source, line, min(stop + 1, len(text)))
    if after.lstrip().startswith(","):
        gone = len(after) - len(after.lstrip().removeprefix(",").lstrip())
        return Span(span.source, start, end + gone)
    if before.rstrip().endswith(","):
        return Span(span.source, line + len(before.rstrip()) - 1, end)
    return span


def _indent(key: Span) -> str:
    line = key.source.text.rfind("\n", 0, key.start) + 1
    return key.source.text[line : key.start] if not key.source.text[line : key.start].strip() else ""
