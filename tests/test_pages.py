"""Pages say what the compiler says today: docs/methods.md and docs/corpus.md (`python -m tests.pages` writes them), README."""

from __future__ import annotations

import pytest

from ftdsl.lint.check import load
from tests import pages
from tests.conftest import ROOT


@pytest.mark.parametrize("name", pages.TABLES)
@pytest.mark.slow
def test_the_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages.page(name)


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_the_count_of_rules_is_current(name: str) -> None:
    assert f"{len(load())} rules" in (ROOT / name).read_text(encoding="utf-8").replace("**", "")
