"""How a host (a signal handler, an editor, a study) stops a run."""

from __future__ import annotations


class Stop:
    """After one request stages may save and end by themselves; after a second they are killed. Safe in a signal handler."""

    def __init__(self) -> None:
        self.requests = 0

    def stop(self) -> None:
        self.requests += 1
