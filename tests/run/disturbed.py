"""A run of toy trainings that is disturbed at some moment, and carried on until it is done."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ftdsl.run.control import supervisor_of
from ftdsl.run.launchers.local import read_holder
from ftdsl.runtime.events import processes_of
from tests.conftest import until

ROWS = "".join(json.dumps({"instruction": f"q{number}", "output": f"a{number}"}) + "\n" for number in range(40))
TOY = Path(__file__).with_name("toy_training.py")
RECIPE = """
data rows {{ source = file("rows.jsonl") }}
shell a {{
  after   = rows
  run     = "exec {python} -SE inputs/toy_training.py 20-a 24 {{rows.path}}/train.jsonl inputs/trace.txt"
  outputs = ["20-a/model.json"]
}}
shell b {{
  after   = a
  run     = "exec {python} -SE inputs/toy_training.py 30-b 24 20-a/model.json inputs/trace.txt"
  outputs = ["30-b/model.json"]
}}
"""
CLOCK = '''
"""Takes the place of the clock: hours that a file names are taken off."""
import datetime, os, time
real = time.time
def shift():
    try:
        with open(os.environ["TESTS_CLOCK"]) as handle:
            return float(handle.read() or 0)
    except (OSError, ValueError):
        return 0.0
time.time = lambda: real() - 3600 * shift()
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Clock
'''
DISK = 4096
"""KiB of the small disk: enough for the run."""


@dataclass
class Place:
    """A project in a folder of its own. undo: what ends the disturbance."""

    folder: Path
    clients: list[subprocess.Popen[bytes]] = field(default_factory=list)
    undo: list[Callable[[], object]] = field(default_factory=list)
    ended: list[tuple[int, str]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "runs" / "r"

    def start(self, *arguments: str) -> None:
        """`ftc run` as a terminal starts it; where this is root, without its right to write whatever the modes of files."""
        held = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
        command = [*held, sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--json", "--plain", *arguments]
        number = len(self.clients)
        with (self.folder / f"out.{number}").open("wb") as out, (self.folder / f"err.{number}").open("wb") as err:
            self.clients.append(
                subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=err, start_new_session=True, env=self.env)
            )

    @property
    def env(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        return {
            **own, "HOME": str(self.folder / "home"), "XDG_CACHE_HOME": str(self.folder / "home"),
            "XDG_STATE_HOME": str(self.folder / "home"), "PYTHONPATH": str(self.folder / "clock"),
            "TESTS_CLOCK": str(self.folder / "clock" / "hours"), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def wait(self) -> tuple[int, str]:
        """The exit status of the last `ftc run` and what it printed beside its document; all that were started have ended."""
        for client in self.clients:
            client.wait(timeout=120)
        number = len(self.clients) - 1
        text = (self.folder / f"err.{number}").read_text(encoding="utf-8")
        self.ended.append((self.clients[-1].returncode, text))
        return self.ended[-1]

    def document(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / f"out.{len(self.clients) - 1}").read_bytes())
        return found

    def processes(self) -> dict[int, str]:
        """All that work below this folder, with their commands."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                if state not in "ZX" and (entry / "cwd").resolve().is_relative_to(self.folder.resolve()):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def stages(self) -> Iterator[tuple[int, list[int]]]:
        """Of stages that run: the leader, and all processes."""
        for lock in self.home.glob("*/*/.lock"):
            if (holder := read_holder(lock.parent)) and (pids := list(processes_of(holder[3]))):
                yield holder[0], pids

    def trace(self) -> list[tuple[str, str, str, int]]:
        """Stage, process, what it did, at which step."""
        lines = (self.folder / "trace.txt").read_text(encoding="utf-8").splitlines()
        parts = [[*line.split(), "0"][:4] for line in lines]
        return [(stage, pid, what, int(step)) for stage, pid, what, step in parts]


@contextlib.contextmanager
def placed(folder: Path) -> Iterator[Place]:
    """A project to disturb, cleared away at the end with all that still runs in it."""
    for name in ("clock", "home", "runs"):
        (folder / name).mkdir()
    (folder / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    (folder / "r.ft").write_text(RECIPE.format(python=sys.executable), encoding="utf-8")
    (folder / "clock" / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    shutil.copy(TOY, folder)
    (folder / "trace.txt").touch()
    place = Place(folder)
    try:
        yield place
    finally:
        for pid in place.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for client in place.clients:
            client.wait(timeout=20)
        for step in reversed(place.undo):
            step()


# --- disturbances: each is given the place at the moment


def kill_supervisor(place: Place, rng: random.Random) -> None:
    if pid := supervisor_of(place.home):
        os.kill(pid, signal.SIGKILL)


def kill_stage(place: Place, rng: random.Random) -> None:
    """The process that leads a stage, not those it has started."""
    for leader, _ in place.stages():
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGKILL)


def kill_rank(place: Place, rng: random.Random) -> None:
    """One process of a stage, whichever."""
    for leader, pids in place.stages():
        if others := [pid for pid in pids if pid != leader]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(others), signal.SIGKILL)


def kill_all(place: Place, rng: random.Random) -> None:
    """As a power cut does, also to the last line that was being written."""
    for pid in place.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not place.processes(), "they are gone", 20)
    for log in place.home.glob("*/events.jsonl"):
        content = log.read_bytes()
        last = content.rstrip(b"\n").rpartition(b"\n")[2]
        os.truncate(log, len(content) - rng.randint(0, len(last)))


def to_client(number: signal.Signals) -> Callable[[Place, random.Random], None]:
    def send(place: Place, rng: random.Random) -> None:
        place.clients[-1].send_signal(number)

    return send


def to_supervisor(place: Place, rng: random.Random) -> None:
    if pid := supervisor_of(place.home):
        os.kill(pid, signal.SIGTERM)


def full_disk(place: Place, rng: random.Random) -> None:
    """At most a few KiB are left for those who write; from before the start the runs lie on a small disk."""
    filler = place.folder / "runs" / "filler"
    free = shutil.disk_usage(filler.parent).free - 4096 * rng.randint(0, 8)
    file = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        os.posix_fallocate(file, 0, max(1, free))
    os.close(file)
    place.undo.append(lambda: filler.unlink(missing_ok=True))


def read_only(place: Place, rng: random.Random) -> None:
    paths = [path for path in (place.folder / "runs", *(place.folder / "runs").rglob("*")) if not path.is_symlink()]
    modes = {path: path.stat().st_mode for path in paths if path.exists()}
    for path, mode in modes.items():
        with contextlib.suppress(FileNotFoundError):
            path.chmod(mode & ~0o222)

    def writable() -> None:
        for path, mode in modes.items():
            with contextlib.suppress(FileNotFoundError):
                path.chmod(mode)

    place.undo.append(writable)


def clock_back(place: Place, rng: random.Random) -> None:
    """By up to two days, while it runs; what comes next has that clock too, and is stopped once so that it has to be resumed."""
    (place.folder / "clock" / "hours").write_text(str(rng.uniform(0.1, 48)), encoding="utf-8")
    to_supervisor(place, rng)


def second_run(place: Place, rng: random.Random) -> None:
    place.start()


KINDS: dict[str, Callable[[Place, random.Random], None]] = {
    "supervisor killed": kill_supervisor,
    "stage killed": kill_stage,
    "rank killed": kill_rank,
    "all killed": kill_all,
    "SIGHUP": to_client(signal.SIGHUP),
    "SIGINT": to_client(signal.SIGINT),
    "SIGTERM": to_supervisor,
    "full disk": full_disk,
    "read-only runs": read_only,
    "clock set back": clock_back,
    "two runs": second_run,
}


def prepare(place: Place, kind: str) -> None:
    """What a disturbance needs before the run starts."""
    if kind == "full disk":
        runs = place.folder / "runs"
        options = f"size={DISK}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(runs)], check=True)
        place.undo.append(lambda: subprocess.run(["umount", "-l", str(runs)], check=True))


def check_trace(trace: list[tuple[str, str, str, int]]) -> None:
    """Never two processes at one stage, and no step again that a checkpoint holds."""
    for stage in {entry[0] for entry in trace}:
        entries = [entry for entry in trace if entry[0] == stage]
        blocks = [pid for pid, _ in itertools.groupby(entries, key=lambda entry: entry[1])]
        assert len(blocks) == len(set(blocks)), f"two processes at {stage} at once: {entries}"
        saved = 0
        for _, pid, what, step in entries:
            assert what != "step" or step > saved, f"step {step} of {stage} again by {pid}: {entries}"
            saved = max(saved, step) if what == "saved" else saved
