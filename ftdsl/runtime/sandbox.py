"""Runs Python code that nobody has read in a process of its own, and counts the tests that pass. Standard library only.

Limits, none of which needs root: CPU seconds, wall time, address space, size of a written file, open files (setrlimit). On Linux
(x86-64, arm64) also: no sockets, no new processes, no other program, no signal to others (seccomp); files are written only in the
process's own temporary folder and read only in Python's and the system's folders (Landlock, Linux 5.13). `protections()` tells
what is in force here. The code has Python's standard library. It shares its process with the tests, so code written to deceive
them can; what it cannot do is reach anything outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

NETWORK, PROCESSES = "open network connections", "start other processes"
WRITING, READING = "write outside of its folder", "read your files"
FILE = 1 << 20
"""Maximum size in bytes of a file that the code writes."""


@dataclass(frozen=True)
class Limits:
    """seconds: of wall time and of CPU; memory: bytes of address space, of which Python itself takes about 40 MB."""

    seconds: float = 5.0
    memory: int = 512 << 20


@dataclass(frozen=True)
class Verdict:
    """passed: of each test, in order; error: what the code raised before its tests, or why it was ended; "" otherwise."""

    passed: tuple[bool, ...] = ()
    error: str = ""

    @property
    def share(self) -> float:
        """Share of the tests that passed; 0 without any."""
        return sum(self.passed) / len(self.passed) if self.passed else 0.0


def check(code: str, tests: Sequence[str], limits: Limits | None = None) -> Verdict:
    """Execute the code, and then each test in its names. A test passes when it raises nothing.

    A process that ends early, whatever its exit status, passes no further test.
    """
    limits = limits or Limits()
    folder = Path(tempfile.mkdtemp(prefix="ftdsl-sandbox-"))
    token = secrets.token_hex(16)
    spec = {"code": code, "tests": list(tests), "token": token, "folder": str(folder), **asdict(limits)}
    report, write = os.pipe()
    try:
        with os.fdopen(report, "rb") as results:
            try:
                error = _run(spec, write, folder, limits)
            finally:
                os.close(write)
            lines = results.read(1 << 16).decode("utf-8", "replace").splitlines()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    passed = [False] * len(tests)
    for line in lines:
        mark, _, rest = line.partition(" ")
        if mark == token:  # a line that the code itself wrote does not count
            number, _, text = rest.partition(" ")
            if number.isdigit() and int(number) < len(tests):
                passed[int(number)] = True
            elif number == "error":
                error = error or text
    return Verdict(tuple(passed), error)


def _run(spec: dict[str, Any], write: int, folder: Path, limits: Limits) -> str:
    """Why the process was ended; "" if it ended by itself."""
    command = [sys.executable, "-I", "-S", "-B", str(Path(__file__).resolve()), str(write)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        env=environment, pass_fds=(write,), start_new_session=True,
    )  # fmt: skip
    try:
        process.communicate(json.dumps(spec).encode(), timeout=limits.seconds + 1)
    except subprocess.TimeoutExpired:
        return f"ran longer than {limits.seconds:g} s"
    except BrokenPipeError:
        return "ended before it read its code"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # children that outlived it, where seccomp could not forbid them
        process.wait()
    ended = process.returncode
    if ended in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"used more than {limits.seconds:g} s of CPU"
    return f"ended by {signal.Signals(-ended).name}" if ended < 0 else f"exit status {ended}" if ended else ""


def check_all(work: Sequence[tuple[str, Sequence[str]]], limits: Limits | None = None) -> list[Verdict]:
    """The verdicts of (code, tests), as many processes at once as there are cores."""
    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, 16))) as pool:
        return list(pool.map(lambda item: check(item[0], item[1], limits), work))


@cache
def protections() -> tuple[str, ...]:
    """What holds on this machine besides time, CPU and memory, found by trying it: a part of `NETWORK`, `PROCESSES`, …"""
    outside = Path(tempfile.mkdtemp(prefix="ftdsl-outside-"))
    tried = {
        NETWORK: "import socket\nsocket.socket()",
        PROCESSES: "import os\nif os.fork() == 0: os._exit(0)",
        WRITING: f"open({str(outside / 'file')!r}, 'w')",
        READING: f"open({str(Path(__file__).resolve())!r})",
    }
    try:
        checks = check_all([("", [code]) for code in tried.values()])
    finally:
        shutil.rmtree(outside, ignore_errors=True)
    return tuple(name for name, verdict in zip(tried, checks, strict=True) if not verdict.share)


def missing() -> tuple[str, ...]:
    """What code may do here although it should not."""
    return tuple(name for name in (NETWORK, PROCESSES, WRITING, READING) if name not in protections())


# --- in the process


@dataclass
class _Filter:
    """A seccomp program (classic BPF). Numbers of system calls: x86-64 and arm64 tables of Linux."""

    machine: str
    lines: list[tuple[int, int, int, int]] = field(default_factory=list)

    ARCHITECTURES = {  # noqa: RUF012
        "x86_64": (0xC000003E, {"socket": 41, "socketpair": 53, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62,
                                "ptrace": 101, "tkill": 200, "tgkill": 234, "execveat": 322, "clone3": 435,
                                "io_uring_setup": 425, "process_vm_writev": 311, "pidfd_send_signal": 424}),
        "aarch64": (0xC00000B7, {"socket": 198, "socketpair": 199, "clone": 220, "execve": 221, "kill": 129, "ptrace": 117,
                                 "tkill": 130, "tgkill": 131, "execveat": 281, "clone3": 435, "io_uring_setup": 425,
                                 "process_vm_writev": 271, "pidfd_send_signal": 424}),
    }  # fmt: skip

    LOAD, EQUAL, SET, RETURN = 0x20, 0x15, 0x45, 0x06
    ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
    THREAD = 0x00010000

    def program(self) -> bytes | None:
        """None where the machine's table is not known. A thread is a clone with CLONE_THREAD, and allowed."""
        import struct

        if self.machine not in self.ARCHITECTURES:
            return None
        audit, calls = self.ARCHITECTURES[self.machine]
        add = self.lines.append
        add((self.LOAD, 0, 0, 4))  # seccomp_data.arch
        add((self.EQUAL, 1, 0, audit))
        add((self.RETURN, 0, 0, self.EPERM))
        add((self.LOAD, 0, 0, 0))  # seccomp_data.nr
        for name, number in calls.items():
            if name == "clone":
                add((self.EQUAL, 0, 4, number))
                add((self.LOAD, 0, 0, 16))  # low half of the first argument: its flags
                add((self.SET, 1, 0, self.THREAD))
                add((self.RETURN, 0, 0, self.EPERM))
                add((self.RETURN, 0, 0, self.ALLOW))
            else:  # glibc tries clone where clone3 does not exist
                add((self.EQUAL, 0, 1, number))
                add((self.RETURN, 0, 0, self.ENOSYS if name == "clone3" else self.EPERM))
        add((self.RETURN, 0, 0, self.ALLOW))
        return b"".join(struct.pack("HBBI", *line) for line in self.lines)


def _forbid(folder: str) -> None:
    """Landlock and seccomp, each where the kernel has it."""
    import ctypes
    import platform

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS: both need it
        return
    _landlock(libc, folder)
    program = _Filter(platform.machine()).program()
    if program is not None:
        buffer = ctypes.create_string_buffer(program)

        class Program(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

        sock_fprog = Program(len(program) // 8, ctypes.addressof(buffer))
        libc.prctl(22, 2, ctypes.byref(sock_fprog), 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _landlock(libc: Any, folder: str) -> None:
    """Files: read Python's and the system's, write its own folder. Numbers: linux/landlock.h, equal on all architectures."""
    import ctypes

    create, add, restrict = 444, 445, 446
    version = libc.syscall(create, None, 0, 1)
    if version < 1:
        return
    everything = (1 << 13) - 1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    reading = 0b1101  # execute, read a file, read a folder
    ruleset = libc.syscall(create, ctypes.byref(ctypes.c_uint64(everything)), 8, 0)
    if ruleset < 0:
        return

    class PathBeneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]

    system = ["/usr", "/lib", "/lib64", "/etc/ssl", "/dev/null", "/dev/urandom", "/dev/zero"]
    for path, allowed in [(folder, everything), *((path, reading) for path in {sys.prefix, sys.base_prefix, *system})]:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rights = allowed if os.path.isdir(path) else allowed & 0b101
            libc.syscall(add, ruleset, 1, ctypes.byref(PathBeneath(rights, handle)), 0)
            os.close(handle)
    libc.syscall(restrict, ruleset, 0)
    os.close(ruleset)


def _limit(seconds: float, memory: int) -> None:
    import resource

    whole = max(1, int(seconds + 0.999))
    wanted = {"RLIMIT_CPU": whole, "RLIMIT_AS": memory, "RLIMIT_FSIZE": FILE, "RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0,
              "RLIMIT_NPROC": 64}  # fmt: skip
    for name, value in wanted.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), (value, value))


def _passes(test: str, names: dict[str, Any]) -> bool:
    try:
        exec(compile(test, "test", "exec"), names)
    except BaseException:  # SystemExit too
        return False
    return True


def _main(report: int) -> None:
    spec = json.loads(sys.stdin.buffer.read())
    token, write = spec.pop("token"), os.write  # before the code can replace it
    _limit(spec["seconds"], spec["memory"])
    with contextlib.suppress(OSError, AttributeError):
        _forbid(spec["folder"])
    names: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(spec["code"], "answer", "exec"), names)
    except BaseException as error:  # SystemExit too: leaving early passes nothing
        text = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
        write(report, f"{token} error {text}\n".encode())
        return
    for number, test in enumerate(spec["tests"]):
        if _passes(test, names):
            write(report, f"{token} {number}\n".encode())


if __name__ == "__main__":
    _main(int(sys.argv[1]))
    os._exit(0)
