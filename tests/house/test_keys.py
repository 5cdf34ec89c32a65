"""A key of the language that code writes as text is one that the vocabulary has: a typo would read as "not set"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.language.resolve.keys import find
from tests.conftest import ROOT

PACKAGE = ROOT / "ftdsl"
DOTTED = re.compile(r"[a-z_0-9]+(\.[a-z_0-9]+)+")
READERS = {
    "get", "set", "unset", "has", "is_explicit", "may_have", "refuse", "say", "warning", "fail", "failed", "drop", "cut",
    "name", "names", "option", "items", "inside", "_where", "_error", "_seed", "_every", "_held_out", "_embeds",
}  # fmt: skip
"""Functions and methods that take a key of the language as first argument."""
HELD_BY_KEY = {"settings", "context", "chooser", "spans", "smaller"}
"""What these hold has keys of the language, those without a dot too."""
OF_DOCUMENTS = {"document", "deepspeed", "accelerate", "beside", "env"}
"""What these hold has the keys of another program."""
OTHERS_SETTINGS = ("lint/", "runtime/")
"""Rooms where `settings` are an engine's."""
VALUES = {"search.best"}
"""What a recipe writes as a value, not as a key."""
ENDINGS = (".yaml", ".json", ".py", ".ft", ".jsonl")


def is_key(text: str) -> bool:
    return any(find(kind, tuple(text.split("."))) is not None for kind in ("file", *vocabulary().stage_kinds))


def literals(tree: ast.AST, *, others: bool = False) -> Iterator[tuple[int, str]]:
    """(line, text) of literals that are meant as keys; `others`: `settings` here are an engine's."""
    blocks = set(vocabulary().block_names())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            text, owner = node.args[0].value, _owner(node.func)
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if not isinstance(text, str) or called not in READERS or owner in OF_DOCUMENTS:
                continue
            keyed = owner in HELD_BY_KEY and not others and re.fullmatch(r"[a-z_0-9]+", text)
            if keyed or DOTTED.fullmatch(text):
                yield node.lineno, text
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and DOTTED.fullmatch(node.value)
            and node.value.split(".")[0] in blocks
            and not node.value.endswith(ENDINGS)
            and node.value not in VALUES
        ):
            yield node.lineno, node.value


def _owner(function: ast.expr) -> str:
    """The last name before the method: `settings` of `stage.settings.get`."""
    held = function.value if isinstance(function, ast.Attribute) else None
    return held.attr if isinstance(held, ast.Attribute) else getattr(held, "id", "")


def wrong_keys(path: Path) -> list[str]:
    name = path.relative_to(PACKAGE).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = literals(tree, others=name.startswith(OTHERS_SETTINGS))
    return [f"{name}:{line}: {text}" for line, text in found if not is_key(text)]


def test_keys_that_code_names_are_words_of_the_language() -> None:
    assert [wrong for path in sorted(PACKAGE.rglob("*.py")) for wrong in wrong_keys(path)] == []


def test_they_are_seen_at_all() -> None:
    texts = [
        text for path in PACKAGE.rglob("*.py") for _, text in literals(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(texts) > 400
    assert {"optim.lr", "batch.micro", "parallel.strategy", "model"} <= set(texts)


@pytest.mark.parametrize(
    "code",
    [
        'stage.settings.get("optim.lrr")',
        'context.is_explicit("optm.lr")',
        'chooser.set("batch.mirco", 1)',
        'settings.get("precison")',
        'spans.get("lora.rnak")',
        'WORDS = ("lora.rank", "lora.rnak")',
        'refuse("memory.chekpointing", "…")',
    ],
)
def test_a_typo_is_seen(code: str) -> None:
    assert [text for _, text in literals(ast.parse(code)) if not is_key(text)]
