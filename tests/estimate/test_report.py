"""docs/planner.md says what the estimator gives: seen here without the published rows, which are not part of this repository."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import report

AGAIN = "run `python -m benchmarks.report MEMORY.csv THROUGHPUT.csv`"


@pytest.mark.parametrize("name", report.SETUPS)
def test_the_tables_are_of_this_estimator(name: str) -> None:
    assert json.loads(report.REFERENCE.read_text(encoding="utf-8"))[name] == report.reference()[name], AGAIN


def test_the_rows_of_our_own_are_scored_as_the_page_says() -> None:
    page = report.DOCS.read_text(encoding="utf-8")
    assert report.checked() in page, AGAIN


def test_every_table_has_its_place_and_is_filled() -> None:
    page = report.DOCS.read_text(encoding="utf-8")
    for name in ("memory", "throughput", "families", "others", "fitting", "check", "groups", "choices"):
        found = re.search(rf"<!-- {name} -->\n\n(.+?)\n\n<!-- /{name} -->", page, re.S)
        assert found, name
    with pytest.raises(ValueError, match="no place for more"):
        report.filled(page, {"more": "x"})
