"""A folder as LLaMA-Factory's users have it: data, and the list of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ALPACA


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.json").write_text(ALPACA, encoding="utf-8")
    (tmp_path / "data/dataset_info.json").write_text('{"rows": {"file_name": "rows.json"}}', encoding="utf-8")
    return tmp_path
