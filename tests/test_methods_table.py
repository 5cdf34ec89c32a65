"""docs/adapters.md has a measured row for each method of its benchmark, whose recipe compiles."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import methods_table
from tests.conftest import examples_in, ftc

HANDBOOK = {"full", "LoRA", "QLoRA, nf4", "bottleneck adapter", "prefix"}
"""The methods of the handbook's own table."""


def test_the_table_has_every_method() -> None:
    shown = (
        methods_table.PAGE.read_text(encoding="utf-8").partition(methods_table.BEGIN)[2].partition(methods_table.END)[0]
    )
    rows = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|", shown, re.MULTILINE))
    assert rows == {title: words.rpartition(", optim")[0] for title, words in methods_table.METHODS.values()}
    assert rows.keys() >= HANDBOOK


def test_its_recipe_is_right(tmp_path: Path) -> None:
    examples_in(tmp_path)
    place = tmp_path / "examples"
    text = methods_table.recipe()
    (place / "methods.ft").write_text(text, encoding="utf-8")
    checked = ftc("check", "methods.ft", cwd=place)
    assert checked.returncode == 0, checked.stdout + checked.stderr
