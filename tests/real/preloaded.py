"""A Python that has the engine imported already (`ftdsl/runtime/preloaded.py`): fifty stages pay for torch once.

`started` gives the path of a program that stands in for the engine's Python. What it is asked to run (the runtime's modules,
launchers, `-c`, other scripts) is a fork of the process that has imported the engine, with the arguments, environment, folder and
open files that it would have by itself; it ends as the fork ends, and passes signals on. Two programs lie in the folder:

- `python`: ranks that torchrun would start are forks too, in the same environment, without torchrun.
- `launching/python`: torchrun, accelerate and DeepSpeed run as they are, and each rank that they start is a fork.

Imports that read variables have read those of the server: what depends on that is to be tried with the engine's own Python.
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

MODULES = ("llamafactory.train.tuner", "peft", "trl", "deepspeed")
TRL_MODULES = (*(f"trl.trainer.{name}_trainer" for name in ("sft", "dpo", "kto", "reward", "grpo", "distillation")),
               "peft", "deepspeed")  # fmt: skip
"""TRL imports its trainers when they are first used."""
LATER = """
import importlib
import transformers.models.llama.modeling_llama, transformers.models.qwen3.modeling_qwen3
from transformers.models.auto import modeling_auto
for name in dir(modeling_auto):
    if name.startswith("MODEL_") and name.endswith("_MAPPING"):
        list(getattr(modeling_auto, name).keys())
collectives = importlib.import_module("deepspeed.comm.torch")
assert callable(collectives.build_shm_op)
collectives.build_shm_op = lambda: None
"""
"""What each training would import: configurations of all architectures, to see which kind a model is of.

DeepSpeed compiles collectives in shared memory for inference on a CPU (50 s of CPU), in a folder that all environments share: two
engines would compile them by turns. Where they are missing, as on a GPU, it calls torch's.
"""
PROGRAM = ROOT / "ftdsl" / "runtime" / "preloaded.py"

CLIENT = """#!{own} -SE
import os, runpy, socket, sys
ask = runpy.run_path("{program}")
argv = sys.argv[1:]
ranks = 1
ours = next((at for at, word in enumerate(argv) if word.startswith("runtime/")), 0)
if {direct} and argv[:2] == ["-m", "torch.distributed.run"] and "--standalone" in argv and ours:
    ranks = int(argv[argv.index("--nproc_per_node") + 1])
    argv = argv[ours:]
if argv[:1] == ["-u"]:
    argv = argv[1:]
    os.environ["PYTHONUNBUFFERED"] = "1"
os.environ["PATH"] = "{bin}" + os.pathsep + os.environ.get("PATH", os.defpath)
if argv[:1] in (["-m"], ["-c"]) and len(argv) > 1 or argv[0].endswith(".py") and not argv[0].startswith("runtime/"):
    argv = ["{start}", "{client}", *argv]
elif not ask["is_for_server"](argv):
    os.execv("{real}", ["{real}", *argv])
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
if ranks == 1:
    sys.exit(ask["wait"](lines[0]) & 0xFF)
sys.exit(max(abs(int(line.recv(16) or b"1")) for line in lines))
"""
START = """import os, runpy, sys
client, kind, *rest = sys.argv[1:]
sys.executable = client
sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
if kind == "-c":
    sys.path[0], sys.argv = "", ["-c", *rest[1:]]
    exec(compile(rest[0], "<string>", "exec"), sys.modules["__main__"].__dict__)
elif kind == "-m":
    sys.path[0], sys.argv = os.getcwd(), rest
    runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
else:
    sys.path[0], sys.argv = os.path.dirname(os.path.abspath(kind)), [kind, *rest]
    runpy.run_path(kind, run_name="__main__")
"""
"""What a fork does that was asked for `-c CODE`, `-m MODULE` or a script. Launchers start ranks by `sys.executable`."""


@contextlib.contextmanager
def started(python: Path, folder: Path, modules: Sequence[str] = MODULES) -> Iterator[Path]:
    """A stand-in for `python`, for as long as the block lasts; its files lie in `folder`. modules: what it has imported."""
    door, start = folder / "door", folder / "start.py"
    start.write_text(START, encoding="utf-8")
    (folder / "imported_later.py").write_text(LATER, encoding="utf-8")
    clients = {True: folder / "python", False: folder / "launching" / "python"}
    for direct, client in clients.items():
        client.parent.mkdir(exist_ok=True)
        text = CLIENT.format(own=sys.executable, real=python, bin=python.parent, door=door, program=PROGRAM, start=start,
                             client=client, direct=direct)  # fmt: skip
        client.write_text(text, encoding="utf-8")
        client.chmod(client.stat().st_mode | stat.S_IXUSR)
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "PYTHONPATH": str(folder),
    }
    command = [str(python), str(PROGRAM), "serve", "--any-environment", str(door), *modules, "imported_later"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            assert any(line == "ready\n" for line in server.stdout), "the engine cannot be imported"
            yield clients[True]
        finally:
            server.terminate()
