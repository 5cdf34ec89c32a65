"""Colours outside of the language server: the Pygments lexer and the TextMate grammar, on every recipe there is."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pygments.lexers import load_lexer_from_file
from pygments.token import Comment, Error, Keyword, Name, Number, String
from textmate_grammar.parsers.base import LanguageParser

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.language import lexing
from ftdsl.language.highlighting import STAGES, RecipeLexer
from tests.conftest import CORPUS, EXAMPLES, ROOT

RECIPES = [*EXAMPLES, *CORPUS]
GRAMMAR = json.loads((ROOT / "grammar" / "ft.tmLanguage.json").read_text(encoding="utf-8"))

SAMPLE = """\
## What it is for.
let lr = 2e-5 # a rate
sft base from other {
  duration = 3 epochs
  optim { lr = lr, warmup = 5% }
  model = hf("Qwen/Qwen3-8B")
  to = "out/{name}"
}
"""
KINDS: dict[str, tuple[Any, str]] = {
    "## What it is for.": (Comment.Special, "comment.line.documentation.ft"),
    "# a rate": (Comment.Single, "comment.line.number-sign.ft"),
    "let": (Keyword.Declaration, "keyword.declaration.ft"),
    "sft": (Keyword, "keyword.control.stage.ft"),
    "base": (Name.Class, "entity.name.type.ft"),
    "duration": (Name.Attribute, "variable.other.property.ft"),
    "optim": (Name.Namespace, "entity.name.section.ft"),
    "2e-5": (Number, "constant.numeric.ft"),
    "hf": (Name.Function, "entity.name.function.ft"),
    "{name}": (String.Interpol, "variable.other.interpolation.ft"),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_pygments_reads_every_recipe_without_an_error(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lexer = RecipeLexer(stripnl=False, ensurenl=False)
    tokens = list(lexer.get_tokens(text))
    assert "".join(value for _, value in tokens) == text
    assert not [value for kind, value in tokens if kind in Error]
    _, comments = lexing.tokens(text)
    assert [str(comment) for comment in comments] == [value for kind, value in tokens if kind in Comment]


def test_kinds_of_words_in_pygments() -> None:
    tokens = {value: kind for kind, value in reversed(list(RecipeLexer().get_tokens(SAMPLE)))}
    assert {word: tokens[word] for word in KINDS} == {word: kinds[0] for word, kinds in KINDS.items()}


def test_the_entry_point_names_the_lexer() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pygments.lexers"] == {"ft": "ftdsl.language.highlighting:RecipeLexer"}
    lexer = load_lexer_from_file(str(ROOT / "ftdsl" / "language" / "highlighting.py"), "RecipeLexer")
    assert lexer.name == RecipeLexer.name


def test_both_know_every_kind_of_stage() -> None:
    kinds = set(vocabulary().stage_kinds)
    assert set(STAGES.split("|")) == kinds
    named = GRAMMAR["repository"]["blocks"]["patterns"]
    assert all(f"{'|'.join(STAGES.split('|'))}" in pattern["match"] for pattern in named[:2])


def test_the_sublime_syntax_is_made_from_the_grammar() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sublime; print(sublime.text(), end='')"],
        cwd=ROOT / "grammar", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (ROOT / "grammar" / "ft.sublime-syntax").read_text(encoding="utf-8") == done.stdout, (
        "python grammar/sublime.py"
    )


@pytest.fixture(scope="module")
def textmate() -> LanguageParser:
    return LanguageParser(GRAMMAR)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_textmate_reads_every_recipe_as_it_is(path: Path, textmate: LanguageParser) -> None:
    """Comments and strings are where the compiler's lexer has them: nothing runs over its end."""
    text = path.read_text(encoding="utf-8")
    element = textmate.parse_string(text)
    assert element is not None
    lines = text.split("\n")
    comments = [
        lines[place[0]][place[1] :]
        for place, _, scopes in element.flatten()
        if any(scope.startswith("comment.") for scope in scopes)
    ]
    _, expected = lexing.tokens(text)
    assert [comment.rstrip() for comment in comments] == [str(comment).rstrip() for comment in expected]


def test_kinds_of_words_in_textmate(textmate: LanguageParser) -> None:
    element = textmate.parse_string(SAMPLE)
    assert element is not None
    found: dict[str, str] = {}
    for _, value, scopes in element.flatten():
        found.setdefault(value, scopes[-1])
    assert {word: found.get(word) for word in KINDS} == {word: kinds[1] for word, kinds in KINDS.items()}
