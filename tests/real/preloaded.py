"""A Python that has the engine imported already (`ftdsl/runtime/preloaded.py`): fifty stages pay for torch once.

`started` gives the path of a program that stands in for the engine's Python. What it is asked to run is what a recipe's
launch scripts say, in a process of its own; anything but our runtime's modules goes to the real Python. Ranks that torchrun would
start are forks too, in the same environment; what a launcher does when one of them dies is to be tried with the real one.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.conftest import ROOT

MODULES = ("llamafactory.train.tuner", "peft", "trl")
PROGRAM = ROOT / "ftdsl" / "runtime" / "preloaded.py"

CLIENT = """#!{own} -SE
import os, runpy, socket, sys
ask = runpy.run_path("{program}")
argv = sys.argv[1:]
ranks = 1
if argv[:2] == ["-m", "torch.distributed.run"] and "--standalone" in argv:
    ranks = int(argv[argv.index("--nproc_per_node") + 1])
    argv = argv[next(at for at, word in enumerate(argv) if word.startswith("runtime/")):]
if not ask["is_for_server"](argv):
    os.execv("{real}", ["{real}", *sys.argv[1:]])
with socket.create_server(("", 0)) as free:
    port = free.getsockname()[1]
lines = []
for rank in range(ranks):
    env = dict(os.environ)
    if ranks > 1:
        env |= {{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}}
        env |= {{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}}
    line = ask["ask"]("{door}", argv, env)
    assert line is not None, "the server refuses"
    lines.append(line)
sys.exit(max(abs(int(line.recv(16) or b"1")) for line in lines))
"""


@contextlib.contextmanager
def started(python: Path, folder: Path, modules: Sequence[str] = MODULES) -> Iterator[Path]:
    """A stand-in for `python`, for as long as the block lasts; its files lie in `folder`. modules: what it has imported."""
    door, client = folder / "door", folder / "python"
    client.write_text(CLIENT.format(own=sys.executable, real=python, door=door, program=PROGRAM), encoding="utf-8")
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }
    command = [str(python), str(PROGRAM), "serve", "--any-environment", str(door), *modules]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            assert any(line == "ready\n" for line in server.stdout), "the engine cannot be imported"
            yield client
        finally:
            server.terminate()
