"""`preloaded.py serve DOOR MODULE…`: a process that has imported the engine, and forks for each command that needs it.
`preloaded.py run PROGRAM ARGUMENTS…`: runs a program there, as the engine's Python itself would, and with it where that fails.

A fork is safe from a process of one thread that has only imported: it computes nothing, and holds no CUDA context (both are
checked). Each command is a process and a session of its own, with the working directory, environment and open files of whoever
asked; a crash ends that process alone. It ends when its asker does. Variables that an import may read have to be those of the
server. The server ends when its standard input does and nothing runs any more. Standard library only.

Protocol: one line of JSON (argv, cwd, env) with file descriptors; `f` once it is forked; then bytes that are numbers of signals,
and at the end the status as text. A connection that closes before `f` was refused.
"""

from __future__ import annotations

import sys

if sys.path and sys.path[0].rstrip("/").endswith("runtime"):
    sys.path.pop(0)  # this folder: no module in it stands in for another one

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import threading
from typing import Any

REAL, DOOR = "FTC_ENGINE_REAL_PYTHON", "FTC_PRELOADED"
"""Variables of a stage: the engine's Python, and where it is preloaded."""
FREE = (
    "FT_", "FTC_", "WANDB_", "MLFLOW_", "SWANLAB_", "TENSORBOARD_", "PATH", "PWD", "OLDPWD", "SHLVL", "_", "PYTHONUNBUFFERED",
    "JE_ARROW_MALLOC_CONF",
)  # fmt: skip
"""Beginnings of variables that no import reads."""
MOST_FILES = 64
PDEATHSIG = 1


# --- the server


def serve(door: str, modules: list[str], *, any_environment: bool = False) -> int:
    """Until standard input ends and nothing runs. 1 when this process must not be forked."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(door)
    listening.listen(64)  # who asks while modules are imported waits
    own = dict(os.environ)
    for module in modules:
        importlib.import_module(module)
    set_by_imports = {name: value for name, value in os.environ.items() if own.get(name) != value}
    if why := unsafe():
        print(f"not preloaded: {why}", file=sys.stderr, flush=True)
        return 1
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    handlers: set[int] = set()
    sources = [listening, sys.stdin.fileno()]
    while len(sources) > 1 or handlers:
        ready, _, _ = select.select(sources, [], [], 0.2)
        for source in ready:
            if source is listening:
                line, _ = listening.accept()
                if pid := os.fork():
                    handlers.add(pid)
                    line.close()
                    continue
                listening.close()
                os._exit(handle(line, None if any_environment else own, set_by_imports))
            elif not os.read(sys.stdin.fileno(), 1024):
                sources.remove(source)
        handlers -= {pid for pid in handlers if os.waitpid(pid, os.WNOHANG)[0]}
    return 0


def unsafe() -> str:
    """Why this process must not be forked; "" when it may."""
    if not hasattr(os, "pidfd_open"):
        return "this system cannot watch a process"
    with contextlib.suppress(OSError):
        if (threads := len(os.listdir("/proc/self/task"))) > 1:
            return f"it has {threads} threads"
    with contextlib.suppress(OSError, AttributeError):
        context = ctypes.c_void_p()
        if ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(context)) != 3:  # CUDA_ERROR_NOT_INITIALIZED
            return "CUDA is initialised"
    return ""


def handle(line: socket.socket, own: dict[str, str] | None, more: dict[str, str]) -> int:
    """One command: forked, watched, ended with who asked for it. own: the server's variables, which those of the command must be
    like; more: those that imports have set.
    """
    files: list[int] = []
    try:
        request, files = receive(line)
        if own is not None and (name := another(own, request["env"])):
            print(f"{' '.join(request['argv'])}: run by itself, since {name} is another", file=sys.stderr, flush=True)
            return 0
    except (OSError, ValueError, LookupError, TypeError):
        return 1
    pid = os.fork()
    if pid == 0:
        line.close()
        run({**request, "env": {**more, **request["env"]}}, files)
    for file in files:
        os.close(file)
    watched: list[Any] = [os.pidfd_open(pid), line]
    with contextlib.suppress(OSError):
        line.sendall(b"f")
    while watched[0] not in select.select(watched, [], [])[0]:
        numbers = line.recv(64)
        if not numbers:  # whoever asked is gone
            watched.remove(line)
        for number in numbers or [signal.SIGKILL]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what it left behind
    with contextlib.suppress(OSError):
        line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    return 0


def another(own: dict[str, str], env: dict[str, str]) -> str:
    """The first variable that differs and that an import may have read."""
    names = sorted({*own, *env})
    return next((name for name in names if own.get(name) != env.get(name) and not name.startswith(FREE)), "")


def run(request: dict[str, Any], files: list[int]) -> None:
    """The forked process: never returns."""
    status = 1
    try:
        os.setsid()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
        for number, file in enumerate(files[:3]):
            os.dup2(file, number)
            os.close(file)
        for file in files[3:]:
            os.set_inheritable(file, True)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = request["argv"]
        sys.path.insert(0, os.path.abspath(os.path.dirname(sys.argv[0])))
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        threading._shutdown()  # type: ignore[attr-defined] # as an interpreter ends
        atexit._run_exitfuncs()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


def receive(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and its files. Raises: OSError, ValueError."""
    head, files, _, _ = socket.recv_fds(line, 4, MOST_FILES)
    length = struct.unpack("!I", head)[0]
    text = b""
    while len(text) < length:
        piece = line.recv(min(length - len(text), 1 << 20))
        if not piece:
            raise OSError("the request ended early")
        text += piece
    request: dict[str, Any] = json.loads(text)
    return request, files


# --- who asks


def ask(door: str, argv: list[str], env: dict[str, str]) -> socket.socket | None:
    """A connection to the process that runs it now; None where there is no such server, or it refuses.
    argv: a program's path, and its arguments.
    """
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(door)
        text = json.dumps({"argv": argv, "cwd": os.getcwd(), "env": env}).encode()
        socket.send_fds(line, [struct.pack("!I", len(text))], inherited())
        line.sendall(text)
        if line.recv(1) == b"f":
            return line
    except OSError:
        pass
    line.close()
    return None


def inherited() -> list[int]:
    """The standard files, and what else was left open for this process (a stage's lock)."""
    files = [0, 1, 2]
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2 and os.get_inheritable(int(name)):
                    files.append(int(name))
    return files[:MOST_FILES]


def wait(line: socket.socket) -> int:
    """The exit status; signals to this process are passed on."""

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            line.sendall(bytes([number]))

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, pass_on)
    text = b""
    with contextlib.suppress(OSError):
        while piece := line.recv(64):
            text += piece
    status = int(text) if text else -signal.SIGKILL  # its watcher is gone, and took it along
    if status < 0:  # it died by a signal, and so does this
        signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -status)
    return status


def is_for_server(argv: list[str]) -> bool:
    """Whether a command is a program of ours that may need the engine; a launcher starts processes itself."""
    return bool(argv) and argv[0].startswith("runtime/") and not argv[0].endswith("/retry.py")


def main(argv: list[str]) -> int:
    """The exit status; for `run` that of the program."""
    if argv[:1] == ["serve"]:
        free = argv[1] == "--any-environment"  # for tests, whose stages differ on purpose
        door, *modules = argv[1 + free :]
        try:
            return serve(door, modules, any_environment=free)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(door)
                os.rmdir(os.path.dirname(door))
    command, door = argv[1:], os.environ.get(DOOR, "")
    if door and is_for_server(command) and (line := ask(door, command, dict(os.environ))) is not None:
        return wait(line)
    real = os.environ[REAL]
    return os.execv(real, [real, *command])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
