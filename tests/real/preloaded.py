"""A Python that has the engine imported already: each command is a fork of it, so that fifty stages pay for torch once.

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
from collections.abc import Iterator
from pathlib import Path

SERVER = """
import array, json, os, runpy, socket, sys
import {imports}
place = sys.argv[1]
door = socket.socket(socket.AF_UNIX)
door.bind(place)
door.listen(8)
print("ready", flush=True)

def child(asked, fds):
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = asked["argv"]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0

def serve(line):
    text, fds, _, _ = socket.recv_fds(line, 1 << 20, 3)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = child(json.loads(text), fds)
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    line.sendall(str(os.waitstatus_to_exitcode(ended)).encode())

while True:
    line, _ = door.accept()
    if os.fork() == 0:  # so that two stages run side by side
        serve(line)
        os._exit(0)
    line.close()
"""

CLIENT = """#!{own} -SE
import json, os, socket, sys
argv = sys.argv[1:]
ranks = 1
if argv[:2] == ["-m", "torch.distributed.run"] and "--standalone" in argv:
    ranks = int(argv[argv.index("--nproc_per_node") + 1])
    argv = argv[next(at for at, word in enumerate(argv) if word.startswith("runtime/")):]
if not argv or not argv[0].startswith("runtime/") or argv[0].endswith("retry.py"):
    os.execv("{real}", ["{real}", *sys.argv[1:]])
with socket.create_server(("", 0)) as free:
    port = free.getsockname()[1]
lines = []
for rank in range(ranks):
    env = dict(os.environ)
    if ranks > 1:
        env |= {{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}}
        env |= {{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}}
    line = socket.socket(socket.AF_UNIX)
    line.connect("{door}")
    asked = json.dumps({{"argv": argv, "cwd": os.getcwd(), "env": env}}).encode()
    socket.send_fds(line, [asked], [0, 1, 2])
    lines.append(line)
sys.exit(max(abs(int(line.recv(16) or b"1")) for line in lines))
"""


@contextlib.contextmanager
def started(python: Path, folder: Path, imports: str = "llamafactory.train.tuner, peft, trl") -> Iterator[Path]:
    """A stand-in for `python`, for as long as the block lasts; its files lie in `folder`. imports: what it has imported."""
    door, client = folder / "door", folder / "python"
    client.write_text(CLIENT.format(own=sys.executable, real=python, door=door), encoding="utf-8")
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), "-c", SERVER.replace("{imports}", imports), str(door)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=folder) as server:
        try:
            assert server.stdout is not None
            assert any(line == "ready\n" for line in server.stdout), "the engine cannot be imported"
            yield client
        finally:
            server.terminate()
