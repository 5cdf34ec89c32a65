"""The real engine: `ftc engine install llamafactory --cpu --deepspeed` puts it there (make test does)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ftdsl.environments import folder_of, python_in
from ftdsl.run.environments import Environment, NoEngineError, find
from tests.conftest import ROOT
from tests.real import preloaded

LONGEST = (
    "guard",
    "strategies",
    "methods",
    "pages",
    "quickstart",
    "search",
    "preload",
    "ranks",
    "stages",
    "trl_strategies",
    "smoke",
)
"""Files that take longest, in the order in which they begin: the last file bounds the whole (`--no-loadscope-reorder`)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = {f"test_{name}": at for at, name in enumerate(LONGEST)}
    own = Path(__file__).parent
    items.sort(key=lambda item: names.get(item.path.stem, len(names)) if item.path.parent == own else len(names))


@pytest.fixture(scope="session")
def engine() -> Environment:
    """The engine's environment. Its absence fails the tests: they are what shows that anything works."""
    return _environment("llamafactory")


@pytest.fixture(scope="session")
def trl() -> Environment:
    """TRL's environment: `ftc engine install trl --cpu --deepspeed`."""
    return _environment("trl")


@pytest.fixture(scope="session")
def forking(engine: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """LLaMA-Factory's environment with a Python that has it imported (preloaded.py)."""
    with preloaded.started(engine.python, tmp_path_factory.mktemp("preloaded")) as python:
        yield replace(engine, python=python)


@pytest.fixture(scope="session")
def forking_trl(trl: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """TRL's environment with a Python that has it imported."""
    with preloaded.started(trl.python, tmp_path_factory.mktemp("preloaded"), preloaded.TRL_MODULES) as python:
        yield replace(trl, python=python)


def launching(forking: Environment) -> Environment:
    """The same where launchers are to run as they are."""
    return replace(forking, python=forking.python.parent / "launching" / "python")


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
