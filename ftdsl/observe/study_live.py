"""A study in a terminal: how far it is, the best trial, what runs, drawn from `study.json` as its workers write it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ftdsl.observe.progress import RunProgress
from ftdsl.observe.study import StudyPicture, headline, read, rows
from ftdsl.observe.text import clock
from ftdsl.printable import one_line, printable

SHOWN = 12
"""Trials in the table: those that run, and the best."""
_STYLES = {"best": "bold green", "front": "bold green", "running": "cyan", "failed": "red", "pruned": "dim",
           "infeasible": "dim", "refused": "yellow"}  # fmt: skip


class StudyView:
    """Notes scroll above a table that follows the study's file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(file=getattr(sys.stderr, "raw", sys.stderr), highlight=False)
        self._live = Live(
            console=self.console,
            get_renderable=self._drawn,
            refresh_per_second=2,
            transient=True,
            vertical_overflow="crop",
        )
        self._began = time.time()

    def __enter__(self) -> StudyView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        self.console.print(Text(printable(text)))

    def begin(self, run: RunProgress, now: float) -> None: ...

    def update(self, run: RunProgress, now: float) -> None: ...

    def end(self, run: RunProgress, now: float) -> None: ...

    def _drawn(self) -> RenderableType:
        picture = read(self.folder)
        return drawn(picture, time.time()) if picture and picture.trials else Text("")


def drawn(picture: StudyPicture, now: float) -> RenderableType:
    """The head and the table."""
    head = Text.assemble(
        (one_line(picture.name), "bold"), f"  {headline(picture)}  ", (clock(now - picture.began), "dim")
    )
    first, *rest = rows(picture, now, SHOWN)
    table = Table.grid(padding=(0, 2))
    table.add_row(*(Text(cell, "dim") for cell in first))
    for row in rest:
        style = _STYLES.get(row[1], "")
        table.add_row(*(Text(one_line(cell), style, overflow="ellipsis", no_wrap=True) for cell in row))
    return Group(head, table)
