"""How a host stops what it has carried out: a signal handler, an editor's button or a study holds one of these."""

from __future__ import annotations


class Stop:
    """Asked once, stages may end by themselves (and save); asked again, they are killed. Safe in a signal handler."""

    def __init__(self) -> None:
        self.asked = 0

    def stop(self) -> None:
        self.asked += 1
