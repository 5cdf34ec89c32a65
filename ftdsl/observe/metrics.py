"""Reads what a stage leaves in its folder: `metrics.jsonl` while it grows, `result.json` when it is there.

The shape of both files is in docs/build-and-run.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdsl.session import LARGE, open_regular, read_json


class Tail:
    """The whole lines of a file that grows. A half line waits for its end; a file cut short is read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0

    def read(self) -> list[dict[str, Any]]:
        """The events written since the last call; lines that are no events are passed over."""
        whole, end, _ = self._new_bytes().rpartition(b"\n")
        self._at += len(whole) + len(end)
        return [event for line in whole.split(b"\n") if (event := parse(line)) is not None]

    def _new_bytes(self) -> bytes:
        try:
            with open_regular(self.path) as handle:
                if handle.seek(0, 2) < self._at:
                    self._at = 0
                handle.seek(self._at)
                return handle.read()
        except OSError:
            return b""


def parse(line: bytes) -> dict[str, Any] | None:
    """The event on a line, or None. A stage killed while it writes can leave anything here."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def number(value: object) -> float | None:
    """A number of an event: `"nan"` and `"inf"` are written as strings, since JSON has no words for them."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def count(value: object) -> int | None:
    """A whole number of an event, or None."""
    found = number(value)
    return int(found) if found is not None and abs(found) < 1e18 else None


@dataclass(frozen=True)
class Sample:
    """One generated answer beside the wanted one."""

    prompt: str
    label: str
    predict: str


@dataclass(frozen=True)
class Result:
    """What a stage made. `path` is relative to the run folder; metrics are by our names (`loss`, `rouge_l`, …)."""

    kind: str = "files"
    path: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()


def read_result(folder: Path) -> Result | None:
    """The result a stage left in its folder; None when there is none, or it cannot be read."""
    try:
        data = read_json(folder / "result.json", LARGE)
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    return Result(str(data.get("kind", "files")), str(data.get("path", "")), _metrics(data), _samples(data))


def _metrics(data: dict[str, Any]) -> dict[str, float]:
    found = data.get("metrics")
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(name): value for name, raw in pairs if (value := number(raw)) is not None}


def _samples(data: dict[str, Any]) -> tuple[Sample, ...]:
    found = data.get("samples")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return tuple(Sample(*(str(row.get(name, "")) for name in ("prompt", "label", "predict"))) for row in rows)
