"""The recipes of the measurement on a card are sound, so that a lent card is not spent on a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.own_card import DEFAULTS, RECIPE, RUNS
from tests.conftest import ftc


@pytest.mark.parametrize("title", RUNS)
def test_its_recipes_are_sound(title: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "q", "output": "a"}\n' * 100, encoding="utf-8")
    text = RECIPE.format(**DEFAULTS | {"name": "own"} | RUNS[title])
    (tmp_path / "own.ft").write_text(text.replace("gpu = auto", "gpu = h200(141GB)"), encoding="utf-8")
    done = ftc("check", "own.ft", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FT701" not in done.stdout + done.stderr
