"""docs/check.md shows what a user sees: each recipe on it, checked, prints the text below it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import NOWHERE, ROOT, ftc

PAGE = ROOT / "docs" / "check.md"
PAIR = re.compile(r"^```\n(?P<recipe>hardware .*?)^```\n\n^```\n(?P<said>.*?)^```\n", re.DOTALL | re.MULTILINE)
ROW = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'


def printed(recipe: str, folder: Path) -> str:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "tickets.jsonl").write_text(ROW, encoding="utf-8")
    (folder / "recipe.ft").write_text(recipe, encoding="utf-8")
    return "$ ftc check recipe.ft\n" + ftc("check", "recipe.ft", cwd=folder, COLUMNS="120", **NOWHERE).stdout


def test_there_are_three() -> None:
    assert len(PAIR.findall(PAGE.read_text(encoding="utf-8"))) == 3


@pytest.mark.parametrize(
    "pair", list(PAIR.finditer(PAGE.read_text(encoding="utf-8"))), ids=["slips", "stages", "engine"]
)
def test_the_page_shows_what_is_printed(pair: re.Match[str], tmp_path: Path) -> None:
    assert printed(pair["recipe"], tmp_path) == pair["said"]


def write(folder: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = PAIR.sub(lambda pair: f"```\n{pair['recipe']}```\n\n```\n{printed(pair['recipe'], folder)}```\n", text)
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
    sys.exit(0)
