"""A process that has imported the engine forks for each command; what runs there is as if the engine's Python ran it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, until

PROGRAM = ROOT / "ftdsl" / "runtime" / "preloaded.py"
SHOW = """
import json, os, sys
print(json.dumps({"argv": sys.argv, "cwd": os.getcwd(), "name": __name__, "forked": "colorsys" in sys.modules,
                  "x": os.environ.get("WANDB_X"), "files": [n for n in map(int, os.listdir("/proc/self/fd")) if 2 < n < 99],
                  "path": sys.path[0], "module": os.environ.get("FROM_IMPORT")}))
"""
MODULE = "import colorsys, os\nos.environ['FROM_IMPORT'] = 'yes'\n"
PROGRAMS = {
    "show": SHOW,
    "status": "import sys; sys.exit(7)",
    "text": "import sys; sys.exit('no such model')",
    "raise": "raise ValueError('wrong')",
    "crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "leave": "import os; os._exit(9)",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()",
    "atexit": "import atexit; atexit.register(print, 'last')",
    "sleep": "import os, time; print(os.getpid(), flush=True); open('pid', 'w').write(str(os.getpid())); time.sleep(100)",
    "child": "import subprocess, sys; print(subprocess.Popen(['sleep', '100']).pid, flush=True); import time; time.sleep(100)",
}


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    place: Path
    door: Path

    def run(self, name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *arguments),
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
            env=self.env(**env),
        )

    def start(self, name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(name),
            cwd=self.place,
            stdout=subprocess.PIPE,
            text=True,
            env=self.env(),
            start_new_session=True,
        )

    def command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(PROGRAM), "run", f"runtime/{name}.py", *arguments]

    def env(self, **more: str) -> dict[str, str]:
        return {**environment(), "FTC_ENGINE_REAL_PYTHON": sys.executable, "FTC_PRELOADED": str(self.door), **more}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "modules").mkdir()
    (tmp_path / "door").mkdir()
    for name, text in PROGRAMS.items():
        (tmp_path / "runtime" / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "modules" / "engine_of_tests.py").write_text(MODULE, encoding="utf-8")
    yield from started(tmp_path, "engine_of_tests")


def started(place: Path, module: str) -> Iterator[Server]:
    door = place / "door" / "door"
    code = f"import runpy, sys; sys.path.append({str(place / 'modules')!r}); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(PROGRAM), "serve", str(door), module],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(place / "log").open("wb"), env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    yield Server(process, place, door)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def test_as_the_engines_python_would(server: Server) -> None:
    """The same arguments, folder, environment, files and search path; only the imports are there already."""
    forked = json.loads(server.run("show", "a b", "--c", WANDB_X="1").stdout)
    alone = json.loads(server.run("show", "a b", "--c", WANDB_X="1", FTC_PRELOADED="").stdout)
    assert (forked.pop("forked"), alone.pop("forked")) == (True, False)
    assert (forked.pop("module"), alone.pop("module")) == ("yes", None), "as if the import had been made here"
    assert forked == alone


@pytest.mark.parametrize("name", ["status", "text", "raise", "crash", "leave", "thread", "atexit"])
@pytest.mark.slow
def test_ends_alike_and_takes_no_other_along(name: str, server: Server) -> None:
    forked, alone = server.run(name), server.run(name, FTC_PRELOADED="")
    assert (forked.returncode, forked.stdout) == (alone.returncode, alone.stdout)
    last = [done.stderr.strip().rpartition("\n")[2] for done in (forked, alone)]
    assert last[0] == last[1]
    assert json.loads(server.run("show").stdout)["forked"], "the next is served"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "HF_HOME", "CUDA_VISIBLE_DEVICES"])
def test_another_environment_is_run_by_itself(name: str, server: Server) -> None:
    """Imports may have read it."""
    assert json.loads(server.run("show", **{name: "3"}).stdout)["forked"] is False
    assert f"since {name} is another" in (server.place / "log").read_text(encoding="utf-8")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("name", ["sleep", "child"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_who_asked(name: str, number: signal.Signals, server: Server) -> None:
    client = server.start(name)
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    assert alive(pid)
    client.send_signal(number)
    assert client.wait(timeout=20) == -number
    until(lambda: not alive(pid), "it is gone", 10)
    client.stdout.close()


def test_what_runs_outlives_the_server_and_the_next_is_run_by_itself(server: Server) -> None:
    client = server.start("sleep")
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    server.process.kill()
    server.process.wait()
    assert alive(pid)
    assert json.loads(server.run("show").stdout)["forked"] is False
    client.terminate()
    assert client.wait(timeout=20) == -signal.SIGTERM and not alive(pid)
    client.stdout.close()


def test_it_ends_with_its_owner_but_not_before_what_runs(server: Server) -> None:
    client = server.start("sleep")
    assert client.stdout is not None and server.process.stdin is not None
    client.stdout.readline()
    server.process.stdin.close()
    assert json.loads(server.run("show").stdout)["forked"], "a stage has several commands"
    client.kill()
    client.wait()
    server.process.wait(timeout=20)
    assert not server.door.parent.exists() and json.loads(server.run("show").stdout)["forked"] is False
    client.stdout.close()


@pytest.mark.parametrize("text", ["import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
                                  "raise ImportError('broken')"])  # fmt: skip
def test_what_must_not_be_forked_is_not(text: str, tmp_path: Path) -> None:
    for name in ("modules", "door", "runtime"):
        (tmp_path / name).mkdir()
    (tmp_path / "modules" / "wrong.py").write_text(text, encoding="utf-8")
    (tmp_path / "runtime" / "show.py").write_text(SHOW, encoding="utf-8")
    for server in started(tmp_path, "wrong"):
        assert server.process.wait(timeout=20) == 1
        assert json.loads(server.run("show").stdout)["forked"] is False
        log = (tmp_path / "log").read_text(encoding="utf-8")
        assert "not preloaded: it has 2 threads" in log or "broken" in log
