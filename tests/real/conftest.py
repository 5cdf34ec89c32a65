"""The real engine: `ftc engine install llamafactory --cpu --deepspeed` puts it there (make test does)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftdsl.environments import folder_of, python_in
from ftdsl.run.environments import Environment, NoEngineError, find
from tests.conftest import ROOT


@pytest.fixture(scope="session")
def engine() -> Environment:
    """The engine's environment. Its absence fails the tests: they are what shows that anything works."""
    return _environment("llamafactory")


@pytest.fixture(scope="session")
def trl() -> Environment:
    """TRL's environment: `ftc engine install trl --cpu --deepspeed`."""
    return _environment("trl")


def _environment(name: str) -> Environment:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        own = python_in(folder_of(name))  # whoever runs these tests trusts it
        named = "" if os.environ.get("FTC_ENGINE_PYTHON") or not own.exists() else str(own)
        return find(name, os.environ, flag=named)
    except NoEngineError as error:
        pytest.fail(str(error))
    finally:
        os.chdir(here)
