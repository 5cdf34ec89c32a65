"""Stages that are forks of one process give the same results, outlive the supervisor, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.control import supervisor_of
from ftdsl.run.environments import Environment
from tests.conftest import ftc_process, until
from tests.real import trained
from tests.run.test_orphans import end

pytestmark = pytest.mark.real

STAGES = """
sft a { lora { rank = 4 } }
sft b { after = a, lora { rank = 4 }, evaluate { data = 10%, every = 10 steps } }
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    trained.write_rows(tmp_path)
    head = trained.HEAD.format(batch=trained.BATCH, tiny=trained.TINY)
    (tmp_path / "r.ft").write_text(head + STAGES, encoding="utf-8")
    yield tmp_path
    for pid in processes(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes(place: Path) -> dict[int, str]:
    """All that work below a folder, with their commands."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            dead = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
            if not dead and (entry / "cwd").resolve().is_relative_to(place.resolve()):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def run(place: Path, engine: Environment, *arguments: str) -> dict[str, Any]:
    done = ftc_process("run", "r.ft", "--json", "--engine-python", str(engine.python), *arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def until_it_trains(home: Path, before: str = "") -> None:
    """Until a run that came after another has taken a step. before: the folder of that one."""

    def trains() -> bool:
        if not (home / "last").exists() or (home / "last").resolve().name == Path(before).name:
            return False
        return any(b'"event": "step"' in path.read_bytes() for path in home.glob("last/*-a/metrics.jsonl"))

    until(trains, "a step", 300)


def metrics(document: dict[str, Any]) -> dict[str, Any]:
    return {stage["stage"]: stage["metrics"] for stage in document["stages"]}


def adapter(document: dict[str, Any], place: Path) -> bytes:
    return (place / str(document["stages"][-1]["path"]) / "adapter_model.safetensors").read_bytes()


def test_the_same_results_whoever_ends_meanwhile(place: Path, engine: Environment) -> None:
    alone = run(place, engine, "--no-preload")
    log = place / "runs" / "r" / "preloaded.log"
    assert not log.exists()
    forked = run(place, engine, "--fresh")
    text = log.read_text(encoding="utf-8")
    assert "ready" in text and "run by itself" not in text, text
    assert metrics(forked) == metrics(alone) and adapter(forked, place) == adapter(alone, place)
    assert not processes(place)

    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--fresh", "--engine-python", str(engine.python)]
    client = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    home = place / "runs" / "r"
    until_it_trains(home, str(forked["run"]))
    end(supervisor_of(home))
    client.wait(timeout=60)
    joined = run(place, engine)
    assert metrics(joined) == metrics(alone) and adapter(joined, place) == adapter(alone, place)
    until(lambda: not processes(place), "all have ended", 30)


def test_cancelled_nothing_is_left(place: Path, engine: Environment) -> None:
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--engine-python", str(engine.python)]
    client = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    home = place / "runs" / "r"
    until_it_trains(home)
    assert any("preloaded.py serve" in text for text in processes(place).values())
    assert ftc_process("cancel", "r.ft", cwd=place).returncode == 0
    assert client.wait(timeout=60) == 130
    until(lambda: not processes(place), "all have ended", 30)
    done = run(place, engine)
    assert [stage["status"] for stage in done["stages"] if stage["stage"] in "ab"] == ["done", "done"]
