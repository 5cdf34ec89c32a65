"""What the pages of the tutorial show of trainings is what the real engines print today, but for times, dates and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests import tutorial

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project for all pages: their small random models are made once."""
    return tmp_path_factory.mktemp("pages")


@pytest.mark.parametrize(
    "path", [path for path in tutorial.PAGES if tutorial.is_real(path)], ids=lambda path: path.stem
)
def test_a_page_shows_what_its_trainings_print(
    path: Path, folder: Path, forking: Environment, forking_trl: Environment
) -> None:
    pythons = {"llamafactory": forking.python, "trl": forking_trl.python}
    shown = list(tutorial.fences(path.read_text(encoding="utf-8")))
    printed = list(tutorial.fences(tutorial.renewed(path, pythons=pythons, folder=folder)))
    for old, new in zip(shown, printed, strict=True):
        assert tutorial.alike(old.text, new.text), f"{path.name}: shown\n{old.text}\nprinted\n{new.text}"
