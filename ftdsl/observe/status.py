"""The status of a stage before a run, and its measurements against the plan."""

from __future__ import annotations

from ftdsl.record import frozen

DONE, CHANGED, NEW, BROKEN, RUNNING = "done", "changed", "new", "unfinished", "running"
MARKS = {DONE: "=", CHANGED: "~", NEW: "+", BROKEN: "!", RUNNING: ">"}


@frozen
class Compared:
    """Memory (bytes) and step time (seconds), measured and planned for the actual row length.

    wall: seconds including other load on the processor; length: tokens per row with padding; limit: maximum length.
    """

    memory: float
    planned_memory: float
    step: float
    planned_step: float
    wall: float = 0.0
    length: int = 0
    limit: int = 0


@frozen
class StageStatus:
    """The status of one job. run: the run with its result ("" if none); folder: the stage's folder in it; why: reasons;
    step: of the checkpoint from which a training would go on, 0 for none.
    """

    key: str
    state: str
    run: str = ""
    folder: str = ""
    why: tuple[str, ...] = ()
    step: int = 0

    @property
    def runs(self) -> bool:
        """Whether `ftc run` would run it."""
        return self.state != DONE
