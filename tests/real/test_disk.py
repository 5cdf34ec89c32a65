"""A disk that is full when a checkpoint is saved: a clear error, and a run that continues to the same result."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ftc_process, until
from tests.real import trained

pytestmark = pytest.mark.real


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder whose `runs` lie on a disk of 24 MiB."""
    if os.getuid():
        pytest.skip("only root mounts a small disk")
    runs = tmp_path / "runs"
    runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(runs)], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", str(runs)], check=True)


def fill(disk: Path, spare: int) -> None:
    """Leave so many bytes."""
    file = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        os.posix_fallocate(file, 0, shutil.disk_usage(disk).free - spare)
    os.close(file)


def test_a_checkpoint_that_does_not_fit(small_disk: Path, forking: Environment) -> None:
    trained.write_rows(small_disk)
    losses = trained.run(small_disk, {"a": "full {}"}, forking.python)["a"].losses
    home = small_disk / "runs" / "r"
    shutil.rmtree(home)
    python = ("--no-preload", "--engine-python", str(forking.python))
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain", *python]
    client = subprocess.Popen(command, cwd=small_disk, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: any(home.glob("last/*-a/result/checkpoint-5/ftdsl.json")), "a whole checkpoint", 300)
    fill(small_disk / "runs", 32 << 10)
    _, err = client.communicate(timeout=300)
    assert client.returncode == 1 and "`a`: the disk is full" in err and "Traceback" not in err, err
    assert "save { keep = 1 }" in err
    (small_disk / "runs" / "filler").unlink()
    again = trained.run(small_disk, {"a": "full {}"}, forking.python)["a"]
    assert again.status == "done" and again.losses == losses, "bit for bit"
    starts = [event["step"] for event in again.events if event["event"] == "start"]
    assert starts[0] == 0 and starts[-1] >= 5, "it continued from a checkpoint"
    assert ftc_process("clean", cwd=small_disk).returncode == 0
