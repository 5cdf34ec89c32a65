"""This machine: a stage is a process group of its own that holds a lock in its folder for as long as it lives.

The lock is what keeps a stage from being started twice, also after `ftc` was killed: it belongs to the stage, not to who
started it. Beside it are the process that holds it (its number, when it began, which boot of the machine) and, at the end, its
exit status, so that a later `ftc` can join it. Processes that leave the group (torchrun's ranks do) are known by a variable of
their environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ftdsl.run.launchers.launcher import Handle, LaunchError, Task
from ftdsl.run.launchers.log import last_lines
from ftdsl.runtime.events import STARTED_AGAIN, STARTED_AS, processes_of
from ftdsl.storage import open_to_append

GRACE = 20.0
"""Seconds between the question and the order to stop: enough to save a checkpoint's last file."""

DYING = 5.0
"""Seconds that a killed process may take to be gone."""

LOCK, EXIT = ".lock", ".exit"

SCRIPT = """
stage=$1 id=$2 boot=- start=-
trap : TERM INT HUP # asked to stop: the script decides when, and its status is kept
if { read -r boot < /proc/sys/kernel/random/boot_id && read -r stat < /proc/$$/stat; } 2> /dev/null; then
  fields=(${stat##*) })
  start=${fields[19]}
fi
rm -f "$stage/.exit"
printf '%s %s %s %s\\n' "$$" "$start" "$boot" "$id" > "$stage/.lock"
bash "$stage/launch.sh"
status=$?
printf '%s\\n' "$status" > "$stage/.exit.new" && mv "$stage/.exit.new" "$stage/.exit"
exit "$status"
"""


class LocalLauncher:
    """`bash <stage>/launch.sh` on this machine, side by side."""

    name = "local"

    def __init__(self) -> None:
        self._own: dict[str, subprocess.Popen[bytes]] = {}
        self._cancelled_at: dict[str, float] = {}

    def submit(self, task: Task) -> Handle:
        """Raises: LaunchError when the stage runs already, or cannot be started."""
        id = uuid.uuid4().hex
        try:
            with contextlib.ExitStack() as open_files:
                lock = open_files.enter_context(os.fdopen(open_to_append(task.folder / LOCK), "ab"))
                _hold(lock.fileno(), task)
                log = open_files.enter_context(os.fdopen(open_to_append(task.log), "ab"))
                if log.tell():
                    log.write(f"\n{STARTED_AGAIN}{time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
                    log.flush()
                log_start = log.tell()
                # A session of its own: Ctrl-C in the terminal reaches ftc alone, which then stops its stages in order.
                process = subprocess.Popen(
                    ["bash", "-c", SCRIPT, "stage", task.stage, id],
                    cwd=task.run,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**task.env, STARTED_AS: id},
                    start_new_session=True,
                    pass_fds=(lock.fileno(),),
                )
        except OSError as error:
            raise LaunchError(f"it cannot be started: {(error.strerror or str(error)).lower()}") from error
        self._own[id] = process
        return Handle(self.name, id, task.log, log_start, {"pid": process.pid, "folder": str(task.folder)})

    def find(self, task: Task) -> Handle | None:
        holder = read_holder(task.folder)
        if holder is None:
            return None
        pid, start, boot, id = holder
        facts = {"pid": pid, "start": start, "boot": boot, "folder": str(task.folder)}
        return Handle(self.name, id, task.log, 0, facts)

    def poll(self, handle: Handle) -> int | None:
        facts = handle.facts or {}
        process = self._own.get(handle.id)
        if process is not None:
            status = process.poll()
        else:
            lives = alive(facts["pid"], facts["start"], facts["boot"])
            status = None if lives else _left(Path(facts["folder"]))
        if status is not None:
            self._kill(handle)  # its remaining processes; if their leader was killed, their exit status would be lost
        elif (cancelled := self._cancelled_at.get(handle.id)) is not None and time.monotonic() - cancelled > GRACE:
            self._kill(handle)
        return status

    def cancel(self, handle: Handle, *, now: bool = False) -> None:
        if handle.id not in self._cancelled_at:
            self._cancelled_at[handle.id] = time.monotonic()
            _signal(os.killpg, (handle.facts or {})["pid"], signal.SIGTERM)
        if now:
            self._kill(handle)

    def tail(self, handle: Handle, lines: int = 12) -> list[str]:
        return last_lines(handle.log, lines, handle.log_start)

    def _kill(self, handle: Handle) -> None:
        facts = handle.facts or {}
        if handle.id in self._own or alive(
            facts["pid"], facts["start"], facts["boot"]
        ):  # else its number may be another's
            _signal(os.killpg, facts["pid"], signal.SIGKILL)
        for pid in processes_of(handle.id):
            _signal(os.kill, pid, signal.SIGKILL)


def _hold(lock: int, task: Task) -> None:
    """Raises: LaunchError while a process of an earlier start lives."""
    deadline = time.monotonic() + DYING
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = read_holder(task.folder)
            if time.monotonic() > deadline or (holder and alive(*holder[:3])):
                raise LaunchError(f"it runs already, as process {holder[0] if holder else '?'}") from None
            time.sleep(0.05)  # what was killed holds it until it is gone
        except OSError:
            return  # a disk that knows no locks: what is on record of its process still counts


def read_holder(stage: Path) -> tuple[int, str, str, str] | None:
    """The process that last led a stage: number, start in ticks since boot, boot, id; None where none is on record."""
    try:
        pid, start, boot, id = (stage / LOCK).read_text(encoding="utf-8").split()
        return int(pid), start, boot, id
    except (OSError, ValueError):
        return None


def identity(pid: int) -> tuple[int, str, str]:
    """A process as it is known again: its number, when it began, which boot of the machine; `-` where that cannot be seen."""
    try:
        start = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return pid, start, Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, IndexError):
        return pid, "-", "-"


def living(stage: Path) -> int:
    """The process that leads a stage, 0 where none lives. Looks, and touches nothing."""
    holder = read_holder(stage)
    return holder[0] if holder and alive(*holder[:3]) else 0


def alive(pid: int, start: str, boot: str) -> bool:
    """Whether that very process lives: numbers are used again, so its start and the machine's boot must be the same."""
    if start == "-":  # a system without /proc
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    try:
        if Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() != boot:
            return False
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and fields[19] == start


def left(stage: Path) -> int | None:
    """The exit status that a stage left; None where it left none."""
    try:
        return int((stage / EXIT).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _left(stage: Path) -> int:
    """The exit status a stage left; where it left none it was killed."""
    status = left(stage)
    return 128 + signal.SIGKILL if status is None else status


def _signal(send: Callable[[int, int], None], target: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(target, number)
