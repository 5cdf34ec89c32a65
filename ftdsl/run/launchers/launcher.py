"""Starts stages and reports how they ended. The executor knows nothing else of machines.

A launcher is given `<stage>/launch.sh` of a run folder, which it runs with that folder as working directory. Everything else
a stage leaves (metrics.jsonl, result.json) is in its folder, which any observer can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

IN_UTF8 = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
"""Variables under which a stage's Pythons read and print UTF-8 in any locale: the files that ftc writes are in it."""


class LaunchError(Exception):
    """A stage could not be handed to its machine; the message is a sentence for a person, `keys` what it is about in the recipe
    (the first that is set counts), `help` what to do.
    """

    def __init__(self, message: str, *, keys: tuple[str, ...] = (), help: str = "") -> None:
        super().__init__(message)
        self.keys, self.help = keys, help


class NotAnsweredError(LaunchError):
    """The scheduler is not there, or does not answer: nothing is known of the stage."""


@dataclass(frozen=True)
class Task:
    """A stage to start. run: the run folder; stage: its folder in it (`20-sft`); env: the whole environment of its script;
    processes, nodes, accelerators: what it was planned for, over all nodes; after: the starts of stages that it waits for, where
    a queue takes it before they have ended.
    """

    run: Path
    stage: str
    env: Mapping[str, str]
    processes: int = 1
    nodes: int = 1
    accelerators: int = 0
    after: tuple[Handle, ...] = ()

    @property
    def folder(self) -> Path:
        return self.run / self.stage

    @property
    def log(self) -> Path:
        """Everything the stage prints."""
        return self.folder / "log.txt"


@dataclass(frozen=True)
class Handle:
    """A stage that was started, in what any later process needs to find it again. launcher: whose it is; id: there; log: where
    its output goes, of which bytes before `log_start` belong to an earlier start; facts: more, as JSON.
    """

    launcher: str
    id: str
    log: Path
    log_start: int = 0
    facts: Mapping[str, Any] | None = None


class Launcher(Protocol):
    """Starts stages on some machine, one at a time, each polled until it has ended."""

    name: str

    def submit(self, task: Task) -> Handle:
        """Start a stage. Raises: LaunchError when it cannot be."""

    def find(self, task: Task) -> Handle | None:
        """The last start of this stage, whoever made it; None where none is on record. `poll` tells whether it runs."""

    def poll(self, handle: Handle) -> int | None:
        """The exit status of its script, or None while it runs. Called a few times a second, and once more after the end."""

    def cancel(self, handle: Handle, *, now: bool = False) -> None:
        """Ask the stage to end, which may take as long as saving a checkpoint does; with `now` make it."""

    def tail(self, handle: Handle, lines: int = 12) -> list[str]:
        """The last lines it printed that are not blank."""


@runtime_checkable
class ArrayLauncher(Protocol):
    """A queue that takes stages of several runs as one array: the trials of a study."""

    def submit_across(self, tasks: Sequence[Task]) -> list[Handle | LaunchError]:
        """Start stages of different runs of which none waits for another of them, those that ask for the same as one array; for
        each its handle, or why it was refused. Raises nothing.
        """


@dataclass(frozen=True)
class Ending:
    """Why a stage ended that left no word of its own: a sentence, the keys of the recipe it is about, what to do."""

    message: str
    keys: tuple[str, ...] = ()
    help: str = ""


@runtime_checkable
class QueueLauncher(Launcher, Protocol):
    """A launcher with a queue: it takes stages before those they wait for have ended, and several at once. What it starts runs on
    machines of its own, so this machine's cores and GPUs do not count.
    """

    def submit_together(self, tasks: Sequence[Task]) -> list[Handle | LaunchError]:
        """Start stages of which none waits for another of them; for each its handle, or why it was refused. Raises nothing."""

    def describe(self, handle: Handle) -> str:
        """How a stage that has not ended stands in the queue: `job 17 waits: Resources`."""

    def waits(self, handle: Handle) -> bool:
        """Whether a stage that has not ended is in the queue and not started."""

    def ending(self, handle: Handle) -> Ending | None:
        """Why a stage ended with another status than 0, where the queue knows it; None where its own words count."""
