"""Fault injection, for tests of the recovery: `FTC_INJECT="nan@13; exit@20:1"`.

`KIND@STEP[:RANK]`, separated by `;`. Steps count from 1; without a rank, the last rank fails. Once per stage, also across
restarts: nan (the loss is NaN), spike (loss and gradients are multiplied by 100), exit (the rank is killed), hang (the rank
stops computing), corrupt (one bit of that step's checkpoint is flipped, once it is whole: on the first rank). Whenever the
rows of that step are read: rows (their loss is NaN), peak (it is multiplied by 100).
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "FTC_INJECT"
ALWAYS = ("rows", "peak")
SCALES = {"nan": float("nan"), "rows": float("nan"), "spike": 100.0, "peak": 100.0}


@dataclass(frozen=True)
class Planted:
    """rank: -1 for the last."""

    kind: str
    step: int
    rank: int = -1

    def __str__(self) -> str:
        return f"{self.kind}-{self.step}"


def planted(text: str) -> list[Planted]:
    """Raises: ValueError."""
    faults = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        kind, _, position = part.partition("@")
        if kind not in (*SCALES, "exit", "hang", "corrupt"):
            raise ValueError(f"{VARIABLE}: no fault `{kind}`")
        step, _, rank = position.partition(":")
        faults.append(Planted(kind, int(step), int(rank or -1)))
    return faults


class Injector:
    """The faults of one process. folder: the stage's, with marks of the faults that have happened."""

    def __init__(self, folder: Path, faults: list[Planted], rank: int, world: int) -> None:
        self.folder, self.faults, self.rank, self.world = folder, faults, rank, world

    def due(self, step: int, *kinds: str) -> str:
        """The kind of the fault that happens at a step of this rank; "" for none. What happens once is marked."""
        for fault in self.faults:
            rank = fault.rank if fault.rank >= 0 else self.world - 1
            if fault.kind == "corrupt":  # the first rank seals checkpoints
                rank = 0
            if fault.step != step or fault.kind not in kinds or rank != self.rank:
                continue
            if fault.kind in ALWAYS:
                return fault.kind
            mark = self.folder / f".injected-{fault}"
            if not mark.exists():
                mark.touch()
                return fault.kind
        return ""

    def before_step(self, step: int) -> None:
        """Die, or compute no more."""
        kind = self.due(step, "exit", "hang")
        if kind == "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        while kind == "hang":
            time.sleep(0.1)

    def scale(self, step: int) -> float:
        """By what the loss of a step is multiplied."""
        return SCALES.get(self.due(step, *SCALES), 1.0)

    def saved(self, checkpoint: Path, step: int) -> None:
        """Flip a bit in the largest file of a checkpoint."""
        if self.due(step, "corrupt"):
            largest = max(
                (path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
            )
            content = bytearray(largest.read_bytes())
            content[len(content) // 2] ^= 1
            times = largest.stat()
            largest.write_bytes(content)
            os.utime(largest, ns=(times.st_atime_ns, times.st_mtime_ns))


def injector(folder: str, rank: int, world: int) -> Any:
    """None where nothing is planted."""
    text = os.environ.get(VARIABLE, "")
    return Injector(Path(folder), planted(text), rank, world) if text else None
