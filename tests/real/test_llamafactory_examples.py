"""All of LLaMA-Factory's own example configurations import, and compile back to what they were."""

from __future__ import annotations

import pytest

from ftdsl.language.format import format_text
from ftdsl.source import Source
from tests.real import import_table

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def rows() -> list[import_table.Row]:
    return import_table.rows()


def test_all_of_them_are_there(rows: list[import_table.Row]) -> None:
    kinds = [row.kind for row in rows]
    assert kinds.count("train") + kinds.count("export") + kinds.count("chat") == 58
    assert kinds.count("accelerate") == 10


def test_each_comes_back_equal_or_says_why(rows: list[import_table.Row]) -> None:
    assert {str(row.path): row.unexplained for row in rows if row.unexplained} == {}


def test_each_recipe_is_formatted(rows: list[import_table.Row]) -> None:
    for row in rows:
        if row.made is not None:
            assert format_text(Source("recipe.ft", row.made.text)) == row.made.text


def test_v1_files_get_one_sentence(rows: list[import_table.Row]) -> None:
    found = [row for row in rows if "v1" in row.path.parts]
    assert len(found) > 10
    for row in found:
        assert row.made is None
        assert len(row.messages) == 1
        assert "v1" in row.messages[0]


def test_no_finding_that_is_not_defended(rows: list[import_table.Row]) -> None:
    assert {code for row in rows for code in row.checked} <= set(import_table.DEFENDED)
    page = import_table.PAGE.read_text(encoding="utf-8")
    for code in import_table.DEFENDED:
        assert f"**{code}**" in page, code


def test_the_table_of_the_docs_is_current(rows: list[import_table.Row]) -> None:
    assert import_table.PAGE.read_text(encoding="utf-8") == import_table.page(rows)
