"""`ftc` for tests: in this process where only what it prints and writes matters (`ftc`), in a fork of it where it may never
return (`ftc_forked`), in one of its own where the process is the point (`ftc_process`): cold start, signals, locale and encoding,
hash seeds, closed streams, several at once."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NoReturn

from ftdsl.catalog import _registered as registered_tables
from ftdsl.cli.main import main
from ftdsl.engines import registry as engines
from ftdsl.estimate import constants
from ftdsl.targets import registry as targets

READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ")
"""Starts of names of variables that an interpreter reads when it starts: in this process they would do nothing."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM, signal.SIGCHLD)

OF_THE_PACKAGE = frozenset(
    {
        "catalog._load",
        "catalog.gpus",
        "catalog.engine_schema",
        "catalog.template_for_model",
        "catalog.built_in_engines",
        "catalog.chat_formats",
        "catalog.engine_entry_points",
        "catalog.changes._all",
        "catalog.history._helps",
        "catalog.history._versions",
        "catalog.history.pins",
        "catalog.history.schema",
        "catalog.history.table",
        "catalog.vocabulary.vocabulary",
        "credentials._compiled",
        "diagnostics.meanings.meanings",
        "engines.shared.passthrough._names",
        "estimate.architecture._by_hub",
        "importers.sharding._known",
        "importers.values.in_scope",
        "importers.values.meaning",
        "language.lexing.parser",
        "language.resolve.keys.blocks",
        "language.resolve.keys.find",
        "language.resolve.keys.keys_of",
        "language.resolve.keys.methods",
        "language.types.parse_type",
        "recipe.literal_secrets._tools",
        "targets.registry._entry_points",
        "targets.render._environment",
    }
)
"""Caches of what this package and the installed ones hold, which no test changes: kept between calls. Every other is cleared."""


class Ended(subprocess.CompletedProcess[str]):
    """What a command printed, also byte by byte, and its exit status."""

    stdout_bytes: bytes
    stderr_bytes: bytes

    def __init__(self, arguments: list[str], status: int, out: bytes, err: bytes) -> None:
        super().__init__(arguments, status, _text(out), _text(err))
        self.stdout_bytes, self.stderr_bytes = out, err


def ftc_process(
    *arguments: str, cwd: Path, stdin: str | bytes = b"", timeout: float | None = None, **env: str
) -> Ended:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "ftdsl.cli.main", *arguments]
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        input=_bytes(stdin),
        env={**os.environ, **env},
        check=False,
        timeout=timeout,
    )
    return Ended(command, done.returncode, done.stdout, done.stderr)


def ftc(*arguments: str, cwd: Path, stdin: str | bytes = b"", **env: str) -> Ended:
    """The command's `main` in this process, as a process of its own would see it: its folder, environment, streams (files, no
    terminals), empty caches. What it changes in this process is put back.

    An exception that leaves `main` is let out: no test can take it for an exit status of 1.

    Raises: ValueError for a variable that an interpreter reads when it starts.
    """
    if early := [name for name in env if name.startswith(READ_AT_START)]:
        raise ValueError(f"{early[0]} is read when a process starts: use ftc_process")
    clear_caches()
    with _Streams(_bytes(stdin)) as streams, _process_state(cwd, env):
        status = _status(list(arguments))
    return Ended(["ftc", *arguments], status, *streams.written)


def ftc_forked(*arguments: str, cwd: Path, timeout: float = 60) -> Ended:
    """The command in a fork of this process, for what may never return: a warm start takes milliseconds.

    Raises: subprocess.TimeoutExpired; the fork is killed.
    """
    files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 (closed below)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run_forked(list(arguments), cwd, files)
    end = time.monotonic() + timeout
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise subprocess.TimeoutExpired(["ftc", *arguments], timeout)
        time.sleep(0.002)
    contents = []
    for file in files[1:]:
        file.seek(0)
        contents.append(file.read())
    for file in files:
        file.close()
    return Ended(["ftc", *arguments], os.waitstatus_to_exitcode(ended[1]), contents[0], contents[1])


def _run_forked(arguments: list[str], cwd: Path, files: list[IO[bytes]]) -> NoReturn:
    status = 70
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        sys.stdin = _opened(0, "r")
        sys.stdout, sys.stderr = _opened(1, "w"), _opened(2, "w", errors="backslashreplace", line_buffering=True)
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        clear_caches()
        os.chdir(cwd)
        sys.setrecursionlimit(1000)
        status = _status(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _status(arguments: list[str]) -> int:
    """Exit status of `main`, by the rules of `sys.exit`."""
    try:
        return main(arguments)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return int(leaving.code or 0)
        print(leaving.code, file=sys.stderr)
        return 1


@contextlib.contextmanager
def _process_state(cwd: Path, env: dict[str, str]) -> Iterator[None]:
    """What a process has of its own: folder, environment, umask, handlers of signals, limits, threads."""
    folder, environment, argv, path = Path.cwd(), dict(os.environ), sys.argv, list(sys.path)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    limit, collects, umask, threads = sys.getrecursionlimit(), gc.isenabled(), _umask(), set(threading.enumerate())
    tables = [engines._loaded, registered_tables, targets._registered]
    registered = [dict(table) for table in tables]
    fitted = constants.FITTED
    os.chdir(cwd)
    os.environ.update(env)
    sys.argv = ["ftc: main was given its arguments"]
    gc.enable()
    sys.setrecursionlimit(1000)  # as a new interpreter
    try:
        yield
        assert not (left := set(threading.enumerate()) - threads), f"threads left running: {left}"
        assert constants.FITTED is fitted, "constants were changed for the next command"
    finally:
        sys.argv, sys.path[:] = argv, path
        os.chdir(folder)
        _restore(os.environ, environment)
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.setrecursionlimit(limit)
        (gc.enable if collects else gc.disable)()
        os.umask(umask)
        for table, before in zip(tables, registered, strict=True):
            _restore(table, before)


def clear_caches() -> None:
    """Empties each cache of a function of ftdsl, but for those of `OF_THE_PACKAGE`."""
    for name, function in cached_functions().items():
        if name not in OF_THE_PACKAGE:
            function.cache_clear()


def cached_functions() -> dict[str, Any]:
    """Functions and methods of loaded ftdsl modules that keep results, by module and name (without `ftdsl.`)."""
    return _cached_functions(len(sys.modules))


@lru_cache(maxsize=1)
def _cached_functions(modules: int) -> dict[str, Any]:
    """Searched again only when a module was loaded: a search takes about as long as a small command."""
    found = {}
    for module in [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "ftdsl"]:
        for owner in [module, *(v for v in vars(module).values() if isinstance(v, type))]:
            for value in list(vars(owner).values()):
                value = getattr(value, "__func__", value)  # of a class or static method
                if hasattr(value, "cache_clear") and hasattr(value, "__wrapped__"):
                    found[f"{value.__module__}.{value.__qualname__}".removeprefix("ftdsl.")] = value
    return found


class _Streams:
    """The three standard streams as files, also for processes that are started: by descriptor, as a shell redirects them."""

    written: tuple[bytes, bytes]

    def __init__(self, stdin: bytes) -> None:
        self._input = stdin
        self._files: list[IO[bytes]] = []
        self._saved: list[int] = []

    def __enter__(self) -> _Streams:
        self._objects = (sys.stdin, sys.stdout, sys.stderr)
        for stream in self._objects[1:]:
            stream.flush()
        self._files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 (closed on the way out)
        self._files[0].write(self._input)
        self._files[0].seek(0)
        self._saved = [os.dup(number) for number in range(3)]
        for number, file in enumerate(self._files):
            os.dup2(file.fileno(), number)
        sys.stdin = _opened(0, "r")
        sys.stdout, sys.stderr = _opened(1, "w"), _opened(2, "w", errors="backslashreplace", line_buffering=True)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            for stream in (sys.stdout, sys.stderr):
                if not stream.closed:
                    stream.flush()
        finally:
            sys.stdin, sys.stdout, sys.stderr = self._objects
            for number, saved in enumerate(self._saved):
                os.dup2(saved, number)
                os.close(saved)
            out, err = (self._content(file) for file in self._files[1:])
            self.written = (out, err)
            self._files[0].close()
        if error[0] is not None:
            sys.stdout.write(_text(out))  # pytest shows it beside the error
            sys.stderr.write(_text(err))

    def _content(self, file: IO[bytes]) -> bytes:
        with file:
            file.seek(0)
            return file.read()


def _opened(number: int, mode: str, *, errors: str = "strict", line_buffering: bool = False) -> io.TextIOWrapper:
    raw = io.FileIO(number, mode, closefd=False)
    buffer: Any = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, encoding="utf-8", errors=errors, line_buffering=line_buffering)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _restore(mapping: Any, before: dict[Any, Any]) -> None:
    if dict(mapping) != before:
        mapping.clear()
        mapping.update(before)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _text(content: bytes) -> str:
    """Decoded as `subprocess` does with text=True."""
    return content.decode().replace("\r\n", "\n").replace("\r", "\n")
