"""A run that outlives the terminal: a supervisor, forked off and leading a session of its own, carries it out; whoever
started it only watches. What the watcher needs comes through a pipe: notes, the run's folder, the outcome. All else is in the
run's events.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftdsl.observe.progress import RunProgress, View
from ftdsl.run.events import Follower
from ftdsl.run.outcome import Outcome
from ftdsl.run.stop import Stop
from ftdsl.storage import open_to_append, sentence

TICK = 0.1
Work = Callable[[View, Stop], Outcome]


class SupervisorError(Exception):
    """The supervisor could not carry the run out, or is gone; the message is a sentence."""


class _Reporter:
    """The supervisor's view: a line to the watcher, as long as there is one."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def send(self, **message: Any) -> None:
        rest = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):  # nobody watches any more
            while rest:
                rest = rest[os.write(self._pipe, rest) :]

    def note(self, text: str) -> None:
        self.send(note=text)

    def begin(self, run: RunProgress, now: float) -> None:
        self.send(folder=str(run.folder))

    def update(self, run: RunProgress, now: float) -> None: ...

    def end(self, run: RunProgress, now: float) -> None: ...


@dataclass
class Supervised:
    """A supervisor that was started. pid: its process; pipe: what it reports."""

    pid: int
    pipe: int
    folder: Path | None = None
    _rest: bytes = b""

    def messages(self, seconds: float) -> list[dict[str, Any]] | None:
        """What it reports within so many seconds; None once it has ended."""
        ready, _, _ = select.select([self.pipe], [], [], seconds)
        if not ready:
            return []
        piece = os.read(self.pipe, 1 << 20)
        whole, _, self._rest = (self._rest + piece).rpartition(b"\n")
        messages = [json.loads(line) for line in whole.split(b"\n") if line]
        return messages or (None if not piece else [])


def start(work: Work, log: Path) -> Supervised:
    """Fork the supervisor. work: carries the run out with a view and a `Stop`; log: what it prints, which is for bugs alone."""
    sys.stdout.flush()
    sys.stderr.flush()
    log.parent.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            reporter = _Reporter(writing)
            try:
                _detach(log, writing)
            except OSError as error:
                reporter.send(error=sentence(error))
            else:
                status = _supervise(work, reporter)
        finally:
            os._exit(status)
    os.close(writing)
    return Supervised(pid, reading)


def _detach(log: Path, pipe: int) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = open_to_append(log)
    for number, source in enumerate((nothing, output, output)):
        os.dup2(source, number)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, 4096)


def _supervise(work: Work, reporter: _Reporter) -> int:
    stop = Stop()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.stop())
    try:
        outcome = work(reporter, stop)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        expected = type(error).__module__.startswith("ftdsl.")
        text = (
            sentence(error)
            if isinstance(error, OSError)
            else str(error)
            if expected
            else f"ftc has a bug here: {type(error).__name__}: {error}"
        )
        reporter.send(error=text)
        return 1
    outcome.compiled = None
    reporter.send(outcome=pickle.dumps(outcome).hex())
    return outcome.status


def follow(run: Supervised, view: View) -> Outcome:
    """Show a run until it ends. Raises: SupervisorError."""
    follower: Follower | None = None
    outcome: Outcome | None = None
    error = ""
    while (messages := run.messages(TICK)) is not None:
        for message in messages:
            if "note" in message:
                view.note(message["note"])
            elif "folder" in message:
                run.folder = Path(message["folder"])
                follower = Follower(run.folder)
                follower.update()
                view.begin(follower.progress, time.time())
            elif "error" in message:
                error = message["error"]
            elif "outcome" in message:
                outcome = pickle.loads(bytes.fromhex(message["outcome"]))
        if follower is not None:
            follower.update()
            view.update(follower.progress, time.time())
    if follower is not None:
        view.end(follower.progress, time.time())
    with contextlib.suppress(ChildProcessError):
        os.waitpid(run.pid, 0)
    if outcome is None:
        raise SupervisorError(
            error or "the supervisor of this run was killed; its stages run on, and `ftc run` joins them"
        )
    return outcome


def begun(run: Supervised, note: Callable[[str], None]) -> Path | None:
    """Wait until the run has begun; its folder, or None where it ended at once with nothing to do. Raises: SupervisorError."""
    while (messages := run.messages(TICK)) is not None:
        for message in messages:
            if "note" in message:
                note(message["note"])
            elif "error" in message:
                raise SupervisorError(message["error"])
            elif "folder" in message:
                return Path(message["folder"])
    return None
