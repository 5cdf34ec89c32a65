"""The pages of the tutorial print what the commands print today."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tutorial


@pytest.mark.parametrize("path", tutorial.PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_page_shows_what_its_commands_print(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == tutorial.renewed(path), "python -m tests.tutorial"


def test_every_page_but_the_front_ones_has_a_recipe() -> None:
    bare = [
        path.name
        for path in tutorial.PAGES
        if not any(fence.title for fence in tutorial.fences(path.read_text(encoding="utf-8")))
    ]
    assert set(bare) <= {"README.md"}
