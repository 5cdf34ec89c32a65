"""Reads the files of a stage: `metrics.jsonl` while it grows, and `result.json`; `ftdsl.runtime.events` defines both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdsl.runtime import events
from ftdsl.session import open_regular

PIECE = 4 << 20
"""Bytes per read."""


class Tail:
    """Reads complete lines of a growing file. An incomplete line waits for its end; a truncated file is read from the start.

    malformed: messages about dropped fields, each kind once; the reader of the list clears it.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path = path
        self.malformed: list[str] = []
        self._at = start
        self._reported: set[str] = set()

    def read(self) -> list[dict[str, Any]]:
        """The events written since the last call; other lines are skipped."""
        read: list[dict[str, Any]] = []
        while piece := self._new_bytes():
            whole, end, rest = piece.rpartition(b"\n")
            if not end and len(rest) < PIECE:
                break  # an incomplete line
            self._at += len(whole) + 1 if end else len(rest)  # a longer line is not an event
            read += self._events(whole)
        return read

    def _events(self, whole: bytes) -> list[dict[str, Any]]:
        malformed: list[str] = []
        parsed = [event for line in whole.split(b"\n") if (event := events.parse(line, malformed)) is not None]
        for text in malformed:
            if (kind := text.partition(" is ")[0]) not in self._reported:
                self._reported.add(kind)
                self.malformed.append(text)
        return parsed

    def _new_bytes(self) -> bytes:
        try:
            with open_regular(self.path) as handle:
                if handle.seek(0, 2) < self._at:
                    self._at = 0
                handle.seek(self._at)
                return handle.read(PIECE)
        except OSError:
            return b""


@dataclass(frozen=True)
class Sample:
    """A generated answer and the expected one."""

    prompt: str
    label: str
    predict: str


@dataclass(frozen=True)
class Result:
    """The result of a stage. path: relative to the run folder; metrics: by ftdsl's names (`loss`, `rouge_l`, …);
    ledger: what a training's guard detected and did, a sentence each.
    """

    kind: str = "files"
    path: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    ledger: tuple[str, ...] = ()


def read_result(folder: Path) -> Result | None:
    """The result in a stage's folder; None if it is missing or unreadable."""
    if not (folder / events.RESULT).is_file():  # also not a pipe or device
        return None
    document = events.read_result(folder)
    if document is None:
        return None
    names = ("prompt", "label", "predict")
    samples = tuple(Sample(*(str(row.get(name, "")) for name in names)) for row in document["samples"])
    entries = document.get("ledger")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    ledger = tuple(str(entry.get("message", "")) for entry in entries)
    return Result(document["kind"], document["path"], document["metrics"], samples, ledger)
