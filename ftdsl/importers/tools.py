"""Other tools by name: whose command, script or configuration something is, where it is no engine's whose files are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ftdsl import catalog
from ftdsl.engines.llamafactory.abilities import NAME
from ftdsl.engines.trl.abilities import TITLE as TRL

SENTENCE = "this {what} is for {title}; ftc reads LLaMA-Factory's and TRL's"


def sentence(what: str, title: str) -> str:
    """A sentence on a command or a configuration of a tool whose files are not read, or that trains nothing."""
    if title == TRL:
        return f"this {what} of {title} trains nothing that a recipe has a stage for"
    return SENTENCE.format(what=what, title=title)


def of_command(words: Sequence[str]) -> str:
    """The title of the tool that a command starts; "" for none that is known."""
    for at, word in enumerate(words[:40]):
        name = PurePosixPath(word).name
        after = words[at + 1] if at + 1 < len(words) else ""
        for entry in catalog.tools().values():
            known = entry.get("commands", {}).get(name)
            if known is not None and (not known or after in known):
                return str(entry["title"])
            if word in ("-m", "--module") and after.partition(".")[0] in entry.get("modules", ()):
                return str(entry["title"])
            if word.endswith(".py") and _script(word, entry):
                return str(entry["title"])
    return ""


def _script(path: str, entry: Mapping[str, Any]) -> bool:
    parts = PurePosixPath(path).parts
    return parts[-1] in entry.get("scripts", ()) or any(part in entry.get("modules", ()) for part in parts[:-1])


def of_document(data: Mapping[str, Any]) -> str:
    """The name of the tool whose configuration this is; "" where LLaMA-Factory's own keys are as many."""
    keys = {str(key) for key in data}
    best, name = 0, ""
    for tool, entry in catalog.tools().items():
        count = len(keys & set(entry.get("keys", ()))) + 3 * len(keys & set(entry.get("sure", ())))
        if count > best:
            best, name = count, tool
    if keys & (_OURS if best < _CERTAIN else _OURS - {"template"}):  # ms-swift has a `template` too
        return ""
    if best < 2 or (best < 3 and sum(_is_ours(key) for key in keys) > 4 * best):
        return ""
    return name


def title(name: str) -> str:
    """What a tool is called; "" for none."""
    return str(catalog.tools()[name]["title"]) if name else ""


_CERTAIN = 5
"""A key that one tool alone has, and two more of it."""
_OURS = frozenset(("stage", "finetuning_type", "template", "cutoff_len", "dataset_dir", "export_dir", "lora_target"))
"""Keys that only LLaMA-Factory has."""


def _is_ours(key: str) -> bool:
    return catalog.parameter_status(NAME, key) is not None


def of_python(text: str) -> str:
    """The title of the tool that a Python text imports; "" for none."""
    modules = set(re.findall(r"^\s*(?:from|import)\s+(\w+)", text[:200_000], re.M))
    for entry in catalog.tools().values():
        if modules & set(entry.get("modules", ())):
            return str(entry["title"])
    return "transformers and PEFT" if modules & {"transformers", "peft"} else ""
