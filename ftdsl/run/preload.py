"""The engine, imported once for several short stages of a run, or of a study (`ftdsl/runtime/preloaded.py`).

Only stages of one process without a GPU are run that way: a fork of a process that has initialised CUDA cannot use it, and a long
training gains nothing. What cannot be served runs with the engine's Python as usual, so that a server that is gone, or never came
up, costs time alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote

import ftdsl.runtime
from ftdsl.engines import registry
from ftdsl.engines.jobs import Job, Raw
from ftdsl.engines.tools.tool import TOOLS
from ftdsl.run.environments import Environment
from ftdsl.run.launchers.launcher import IN_UTF8
from ftdsl.storage import open_to_append, write_file

PROGRAM = Path(ftdsl.runtime.__file__).with_name("preloaded.py")
REAL, DOOR = "FTC_ENGINE_REAL_PYTHON", "FTC_PRELOADED"
ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""pyarrow's allocator would start threads when it is imported (seen with 26.0)."""
FEWEST = 2
"""Stages with the same variables from which on one import for all of them saves time."""
_REFERENCE = re.compile(r'"\$\{(\w+)(?::[-?]([^}]*))?\}"')


def suits(job: Job) -> bool:
    """Whether a job may be a fork: one process, no GPU, of an engine that says what it imports."""
    engine = registry.get(job.environment) if job.environment else None
    return engine is not None and bool(engine.probe) and job.processes == job.nodes == 1 and not job.accelerators


class Preload:
    """The servers of a run or of a study, one an environment. `start` those that are worth it, and `close` at the end.

    folder: where the servers work; fewest: stages with the same variables from which on one is started.
    """

    def __init__(self, folder: Path, environments: Mapping[str, Environment], fewest: int = FEWEST) -> None:
        self._folder, self._environments, self._fewest = folder, environments, fewest
        self._servers: dict[str, tuple[subprocess.Popen[bytes], str, dict[str, str]]] = {}

    def start(self, jobs: Iterable[Job], env: Mapping[str, str], log: Path) -> None:
        """Begin to import, beside whatever runs first."""
        jobs = [job for job in jobs if suits(job)]
        for name in dict.fromkeys(job.environment for job in jobs):
            wanted = Counter(tuple(environment_of(job, env).items()) for job in jobs if job.environment == name)
            variables, count = wanted.most_common(1)[0]
            if count >= self._fewest:
                with contextlib.suppress(OSError):  # then each stage imports for itself
                    own = {variable: value for variable, value in variables if env.get(variable) != value}
                    self._serve(name, {**env, **own}, own, log)

    def _serve(self, name: str, env: Mapping[str, str], own: dict[str, str], log: Path) -> None:
        engine = registry.get(name)
        assert engine is not None
        python = self._environments[name].python
        door = f"{tempfile.mkdtemp(prefix='ftc-')}/door"
        with os.fdopen(open_to_append(log), "ab") as output:
            process = subprocess.Popen(
                [str(python), str(PROGRAM), "serve", door, engine.probe],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**env, **IN_UTF8, **ONE_THREAD},
                cwd=self._folder,
                start_new_session=True,
            )
        self._servers[name] = (process, door, own)

    def python(self, job: Job, env: Mapping[str, str], run: Path, environment: Environment) -> dict[str, str]:
        """Variables with which a job's script finds its Python: one that asks the server where the job may be a fork.
        run: its run folder; environment: what it runs in.
        """
        real = str(environment.python)
        if job.environment in TOOLS:
            return {TOOLS[job.environment].variable: real, "FT_PYTHON": real}
        server = self._servers.get(job.environment)
        served = self._environments.get(job.environment)
        if server is None or served is None or served.python != environment.python or not suits(job):
            return {"FT_PYTHON": real}
        wrapper = run / ".python" / "python"
        text = f'#!/bin/sh\nexec {quote(sys.executable)} -I -S {quote(str(PROGRAM))} run "$@"\n'
        write_file(wrapper, text.encode())
        wrapper.chmod(0o755)
        if not os.access(wrapper, os.X_OK):  # a disk from which nothing is started
            return {"FT_PYTHON": real}
        path = os.pathsep.join((str(Path(real).parent), env.get("PATH", os.defpath)))
        _, door, variables = (
            server  # a model made at random has a script that sets none of them, and is the same with them
        )
        return {**variables, "FT_PYTHON": str(wrapper.absolute()), REAL: real, DOOR: door, "PATH": path}

    def close(self) -> None:
        """No more is asked for. What was forked has a watcher of its own, and ends with who asked for it."""
        for process, door, _ in self._servers.values():
            process.kill()
            process.communicate()
            shutil.rmtree(Path(door).parent, ignore_errors=True)
        self._servers.clear()


def environment_of(job: Job, env: Mapping[str, str]) -> dict[str, str]:
    """The variables that a job's commands see, as far as its script sets them from others."""
    values = {**env, "PYTHONUNBUFFERED": "1"}
    for name, value in job.env.items():
        if not isinstance(value, Raw):
            values[name] = value
        elif match := _REFERENCE.fullmatch(value.text):
            values[name] = env.get(match[1]) or match[2] or ""
    return values
