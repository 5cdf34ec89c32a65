"""Why a stage failed, and whether a restart may help. Standard library only.

Three classes: `mend` (it would fail again: the user has to change something), `retry` (a process was killed, a connection was
lost, the training stalled) and `unknown`, which is restarted once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MEND, RETRY, UNKNOWN = "mend", "retry", "unknown"
UNKNOWN_STARTS = 1
"""Restarts after failures of unknown cause."""

_TRANSIENT = (
    (r"Connection (?:reset|closed|refused|aborted)|Broken pipe|DistNetworkError|DistBackendError|[Gg]loo|NCCL",
     "the connection between processes was lost"),
    (r"[Tt]imed? ?out|TimeoutError", "processes waited for each other too long"),
    (r"DataLoader worker .*(?:killed|exited)", "a process that loads rows was killed"),
    (r"\bECC\b|Xid|unspecified launch failure|CUDA error: unknown error|fallen off the bus", "a GPU failed"),
    (r"\[Errno 5\]|Input/output error|Stale file handle|\[Errno 116\]", "a disk or a network file system failed"),
)  # fmt: skip
_LASTING = re.compile(
    r"out of memory|No space left on device|Disk quota|\b(?:FileNotFound|Permission|ModuleNotFound|Import|Key|Type|Attribute|"
    r"NotImplemented|Value|Assertion|Index|Name|UnicodeDecode)Error\b"
)


@dataclass(frozen=True)
class Failure:
    """kind: mend, retry or unknown; why: a short fact."""

    kind: str
    why: str


def failure_of(status: int, events: Sequence[dict[str, Any]]) -> Failure:
    """Of one start: its exit status (negative, or above 128: a signal), and the events it left."""
    end = next((event for event in reversed(events) if event["event"] == "end"), None)
    last = events[-1] if events else None
    if last is not None and last["event"] == "guard" and (last.get("anomaly"), last.get("action")) == ("stall", "stop"):
        return Failure(RETRY, str(last["message"]))
    if end is not None and end.get("message"):
        return Failure(MEND, str(end["message"]))
    if end is not None and end.get("error"):
        return _of_errors(end["error"])
    if status < 0 or status > 128:
        return Failure(RETRY, f"it was ended by signal {abs(status) % 128}")
    if end is None:
        return Failure(RETRY if events else UNKNOWN, "a process ended without a word")
    return Failure(UNKNOWN, f"it ended with status {status}")


def _of_errors(errors: Sequence[str]) -> Failure:
    """errors: an exception's text, and those of what caused it."""
    text = "\n".join(errors)
    for pattern, why in _TRANSIENT:
        if re.search(pattern, text):
            return Failure(RETRY, why)
    first = errors[0].partition("\n")[0][:200]
    return Failure(MEND if _LASTING.search(text) else UNKNOWN, first)
