"""The tools' own environments: `make test-tools` puts them there (`ftc engine install lm-eval --cpu`, …)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.engines.tools.tool import TOOLS
from ftdsl.environments import folder_of, python_in
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """The Python of a tool. Its absence fails the tests: they are what shows that anything works."""

    def python(name: str) -> Path:
        path = Path(os.environ.get(TOOLS[name].variable) or ROOT / python_in(folder_of(name)))
        if not path.exists():
            pytest.fail(f"{name} is not installed; type: ftc engine install {name} --cpu")
        return path

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return python
