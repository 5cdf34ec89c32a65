"""A lock that a killed build left is taken away; one of a build that goes on is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftdsl.runtime.stale_locks import YOUNG, unlock


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    path = tmp_path / "py311_cpu" / "cpu_adam" / "lock"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def age(path: Path) -> None:
    then = time.time() - YOUNG - 1
    os.utime(path, (then, then))


def test_of_a_build_that_was_killed(lock: Path) -> None:
    assert unlock() == [], "a build may have just begun"
    age(lock)
    assert unlock() == [lock]
    assert not lock.exists()


def test_of_a_build_that_goes_on(lock: Path) -> None:
    age(lock)
    compiler = subprocess.Popen([sys.executable, "-c", "input()"], cwd=lock.parent, stdin=subprocess.PIPE)
    try:
        assert unlock() == []
    finally:
        compiler.communicate(b"\n")
    assert lock.exists()


def test_where_nothing_was_ever_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "none"))
    assert unlock() == []
