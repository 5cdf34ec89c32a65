"""What stands in for an engine's Python is one to whoever starts it (preloaded.py): most tests of this folder start it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.real.conftest import launching

pytestmark = pytest.mark.real

SHOWS = "import os, sys; print(sys.argv, sys.path[0], os.getcwd(), os.environ['X'], sys.stdin.read(), __name__)"
PROGRAMS = {
    "code": ["-c", SHOWS, "a", "-b"],
    "script": ["below/shows.py", "a"],
    "module": ["-m", "shows", "a"],
    "more paths": ["-u", "-c", "import elsewhere; print(elsewhere.__file__)"],
    "status": ["-c", "import sys; sys.exit(3)"],
    "an error": ["-c", "raise ValueError('no')"],
    "killed": ["-c", "import os; os.kill(os.getpid(), 9)"],
}


def ended(python: Path, arguments: list[str], folder: Path) -> tuple[int, str, str]:
    """Status, output, last line of errors."""
    env = {**os.environ, "X": "value", "PYTHONPATH": str(folder / "more")}
    options: dict[str, Any] = {"cwd": folder, "env": env, "input": "given", "capture_output": True, "text": True}
    done = subprocess.run([python, *arguments], check=False, **options)
    return done.returncode, done.stdout, done.stderr.rpartition("\n")[0].rpartition("\n")[2]


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_does_what_the_engines_python_does(
    name: str, engine: Environment, forking: Environment, tmp_path: Path
) -> None:
    for folder in ("below", "more"):
        (tmp_path / folder).mkdir()
    for path in ("shows.py", "below/shows.py"):
        (tmp_path / path).write_text(SHOWS, encoding="utf-8")
    (tmp_path / "more" / "elsewhere.py").touch()
    expected = ended(engine.python, PROGRAMS[name], tmp_path)
    assert ended(forking.python, PROGRAMS[name], tmp_path) == expected
    assert (expected[0] != 0) == (name in ("status", "an error", "killed"))


def test_it_ends_when_it_is_told_to(forking: Environment) -> None:
    command = [forking.python, "-c", "import time; print('here', flush=True); time.sleep(600)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM


RANK = """
import os, sys
imported = [name for name in ("torch", "llamafactory.train.tuner", "deepspeed") if name in sys.modules]
with open(f"rank-{os.environ['RANK']}", "w") as file:
    print(os.environ["WORLD_SIZE"], "TORCHELASTIC_RUN_ID" in os.environ, *imported, *sys.argv[1:], file=file)
"""
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                   "--mixed_precision", "no", "--dynamo_backend", "no"],
    "deepspeed": ["deepspeed.launcher.runner", "--no_local_rank", "--num_gpus", "2"],
}  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ranks_of_a_launcher_have_imported_the_engine(launcher: str, forking: Environment, tmp_path: Path) -> None:
    """The launcher is the real one: torchrun tells ranks its run, and so does accelerate, which starts them by it."""
    (tmp_path / "rank.py").write_text(RANK, encoding="utf-8")
    command = [launching(forking).python, "-m", *LAUNCHERS[launcher], "rank.py", "a"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    line = f"2 {launcher != 'deepspeed'} torch llamafactory.train.tuner deepspeed a\n"
    assert [(tmp_path / f"rank-{rank}").read_text(encoding="utf-8") for rank in (0, 1)] == [line, line]
