"""What is known of a stage before it runs: whether its result is there, why not, and what it measured beside what was planned."""

from __future__ import annotations

from ftdsl.record import frozen

DONE, CHANGED, NEW, BROKEN, RUNNING = "done", "changed", "new", "unfinished", "running"
MARKS = {DONE: "=", CHANGED: "~", NEW: "+", BROKEN: "!", RUNNING: ">"}


@frozen
class Compared:
    """Bytes and seconds of a step, measured and as the plan has them for rows as long as those that came.

    `wall`: seconds with those in which the processor did something else; `length` of the rows, with their padding; `limit`: the
    longest there may be.
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
    """Of one job: `state`; the run that says so ("" when there is none) and the stage's folder in it; why, a reason a line."""

    key: str
    state: str
    run: str = ""
    folder: str = ""
    why: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether `ftc run` would carry it out."""
        return self.state != DONE
