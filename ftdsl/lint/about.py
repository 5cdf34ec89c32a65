"""The docstring of a rule by heading, for `ftc explain`, the docs and the tests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from ftdsl.diagnostics.codes import CODES
from ftdsl.diagnostics.meanings import meanings
from ftdsl.record import frozen

HEADINGS = ("What it does", "Why it matters", "Example", "Use instead", "Applies to", "Source")
FILES = ("Example", "Use instead")
_HEADING = re.compile(rf"^({'|'.join(HEADINGS)}):[ \n]", re.MULTILINE)
_FILE = re.compile(r"^# file: (\S+)\n", re.MULTILINE)


@frozen
class Example:
    """One configuration: files by name, and facts of the environment (`gpus` -> `2`, `transformers` -> `4.57.1`)."""

    files: Mapping[str, str]
    given: Mapping[str, str] = field(default_factory=dict)


def sections(rule: Callable[..., object]) -> dict[str, str]:
    """Heading -> text. Raises: ValueError if headings are missing, doubled or out of order."""
    parts = _HEADING.split(inspect.getdoc(rule) or "")
    if tuple(parts[1::2]) != HEADINGS:
        raise ValueError(f"{rule.__name__}: headings are {parts[1::2]}, not {list(HEADINGS)}")
    texts = {name: inspect.cleandoc(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return {name: text if name in FILES else _sentence(text) for name, text in texts.items()}


def _sentence(text: str) -> str:
    joined = " ".join(text.split())
    path = "/" in joined.partition(" ")[0]
    return joined if path else joined[:1].upper() + joined[1:]


def examples(text: str) -> list[Example]:
    """The configurations of an example: separated by `---`; `# with: gpus=2` sets facts, `# file: x` starts a file."""
    return [_example(part.strip("\n") + "\n") for part in re.split(r"^---$\n?", text, flags=re.MULTILINE)]


def _example(text: str) -> Example:
    given: dict[str, str] = {}
    if match := re.match(r"# with: (.+)\n", text):
        given = dict(item.strip().split("=", 1) for item in match.group(1).replace("==", "=").split(","))
        text = text[match.end() :]
    first, *rest = _FILE.split(text)
    files = {"train.yaml": first} if first.strip() else {}
    return Example({**files, **dict(zip(rest[::2], rest[1::2], strict=True))}, given)


def severities(rule: Callable[..., object]) -> tuple[str, ...]:
    """The severities of a rule, most severe first: from the functions that it and its private helpers call."""
    names: set[str] = set()
    todo, seen = [rule], set()
    while todo:
        function = todo.pop()
        code = getattr(function, "__code__", None)
        if code is None or function in seen:
            continue
        seen.add(function)
        names |= set(code.co_names)
        todo += [
            function.__globals__[name]
            for name in code.co_names
            if name.startswith("_") and name in function.__globals__
        ]
    return tuple(name for name in ("error", "warning", "info") if name in names)


_OF_RUNS = {"why": "Why it matters", "help": "What to do"}


def explanation_of(code: str) -> dict[str, Any]:
    """All facts of a code: code, name, severities, text by heading; of a code that language and lint share, both texts."""
    from ftdsl.lint.check import load

    rule, meaning = load().get(code), meanings().get(code, {})
    texts: dict[str, str] = {}
    if rule is not None:
        texts = ({"In a recipe": meaning["what"]} if meaning else {}) | sections(rule)
    elif meaning:
        texts = {"What it does": meaning["what"]}
        if "instead" in meaning:
            texts |= {"Example": meaning.get("stage") or meaning["file"], "Use instead": meaning["instead"]}
        texts |= {heading: meaning[word] for word, heading in _OF_RUNS.items() if word in meaning}
    kinds = severities(rule) if rule is not None else meaning.get("severities", ("error",))
    return {"code": code, "name": CODES[code], "severities": list(kinds), "about": texts}
