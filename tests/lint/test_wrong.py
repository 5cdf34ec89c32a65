"""Wrong configurations and recipes of our own invention: each is flagged with its code, at its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.lint.about import Example
from tests.conftest import ROWS, Outcome, small
from tests.lint.reading import lint

HERE = Path(__file__).parent / "wrong"
EXPECTED = re.compile(r"# (FT\d{3})$", re.MULTILINE)


def blocks(name: str) -> list[str]:
    text = (HERE / name).read_text(encoding="utf-8").partition("\n")[2]
    return [block for block in re.split(r"^---\n", text, flags=re.MULTILINE) if EXPECTED.search(block)]


def wanted(text: str) -> tuple[str, int]:
    """The code, and its line."""
    found = EXPECTED.search(text)
    assert found is not None
    return found[1], text.count("\n", 0, found.start()) + 1


def recipe_of(text: str) -> str:
    """A stage that is fine, with these lines added."""
    recipe = small("\n  ".join(text.strip().split("\n")))
    return recipe.replace("  duration = 1 epoch\n", "", 1) if "duration =" in text else recipe


CONFIGS, RECIPES = blocks("configs.yaml"), blocks("recipes.txt")


def test_there_are_a_hundred() -> None:
    assert len(CONFIGS) + len(RECIPES) >= 100
    assert len({wanted(text)[0] for text in [*CONFIGS, *RECIPES]}) >= 60


@pytest.mark.parametrize("text", CONFIGS, ids=[block.strip().split("\n")[0][:40] for block in CONFIGS])
def test_a_wrong_configuration_is_flagged_at_its_line(text: str) -> None:
    code, line = wanted(text)
    found = [
        (one.code, one.span.source.position(one.span.start)[0])
        for one in lint(Example({"train.yaml": text}))
        if one.span
    ]
    assert (code, line) in found


@pytest.mark.parametrize("text", RECIPES, ids=[block.strip().split("\n")[0][:40] for block in RECIPES])
def test_a_wrong_recipe_is_flagged_at_its_line(text: str, checked: Callable[..., Outcome]) -> None:
    recipe = recipe_of(text)
    code, line = wanted(recipe)
    found = [(one.code, one.span.source.position(one.span.start)[0]) for one in checked(recipe, ROWS).found if one.span]
    assert (code, line) in found
