"""docs/methods.md and docs/corpus.md say what the compiler says today (`python -m tests.pages` writes them)."""

from __future__ import annotations

import pytest

from tests import pages
from tests.conftest import ROOT


@pytest.mark.parametrize("name", pages.TABLES)
def test_the_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages.page(name)
