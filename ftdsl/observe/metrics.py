"""Reads what a stage leaves in its folder: `metrics.jsonl` while it grows, `result.json` when it is there.

The shapes of both are `ftdsl.runtime.events`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdsl.runtime import events
from ftdsl.session import open_regular

PIECE = 4 << 20
"""Bytes read at once."""


class Tail:
    """The whole lines of a file that grows. A half line waits for its end; a file cut short is read again.

    `malformed`: sentences about fields that were dropped, each kind once; whoever shows them empties it.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path = path
        self.malformed: list[str] = []
        self._at = start
        self._reported: set[str] = set()

    def read(self) -> list[dict[str, Any]]:
        """The events written since the last call; lines that are no events are passed over."""
        found: list[dict[str, Any]] = []
        while piece := self._new_bytes():
            whole, end, rest = piece.rpartition(b"\n")
            if not end and len(rest) < PIECE:
                break  # a line that waits for its end
            self._at += len(whole) + 1 if end else len(rest)  # a longer one is no event
            found += self._events(whole)
        return found

    def _events(self, whole: bytes) -> list[dict[str, Any]]:
        malformed: list[str] = []
        found = [event for line in whole.split(b"\n") if (event := events.parse(line, malformed)) is not None]
        for text in malformed:
            if (kind := text.partition(" is ")[0]) not in self._reported:
                self._reported.add(kind)
                self.malformed.append(text)
        return found

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
    """One generated answer beside the wanted one."""

    prompt: str
    label: str
    predict: str


@dataclass(frozen=True)
class Result:
    """What a stage made. `path` is relative to the run folder; metrics are by our names (`loss`, `rouge_l`, …);
    ledger: what a training's guard detected and did, a sentence each.
    """

    kind: str = "files"
    path: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    ledger: tuple[str, ...] = ()


def read_result(folder: Path) -> Result | None:
    """The result a stage left in its folder; None when there is none, or it cannot be read."""
    if not (folder / events.RESULT).is_file():  # nor a pipe or device somebody put there
        return None
    found = events.read_result(folder)
    if found is None:
        return None
    names = ("prompt", "label", "predict")
    samples = tuple(Sample(*(str(row.get(name, "")) for name in names)) for row in found["samples"])
    entries = found.get("ledger")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    ledger = tuple(str(entry.get("message", "")) for entry in entries)
    return Result(found["kind"], found["path"], found["metrics"], samples, ledger)
