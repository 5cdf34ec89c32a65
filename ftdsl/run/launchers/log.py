"""The end of a log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ftdsl.credentials import masked
from ftdsl.printable import printable
from ftdsl.runtime.events import since_last_start
from ftdsl.session import open_regular

END = 65536
"""Bytes of a log that are looked at."""

_COLOR = re.compile(r"\x1b\[[0-9;]*m")

_CHATTER = re.compile(
    r"""^\[?(?:INFO|WARNING|DEBUG)\b | ^\[\d{4}-\d\d-\d\d[ ][^\]]*\][ ]\[(?:INFO|WARNING|DEBUG)\]
      | ^Failed[ ]to[ ]load[ ]CPU[ ] | \w*Warning: | ^\s*warnings\.warn\( | ^[WI]\d{4}[ ]\d\d: """,
    re.X,
)
"""Lines that libraries log of themselves while they start, and which say nothing of how far a stage is."""


def progress_line(lines: Sequence[str]) -> str:
    """The last of some lines that says how far a stage is; "" where none does."""
    return next((line for line in reversed(lines) if not _CHATTER.search(line)), "")


def last_lines(log: Path, count: int = 12, start: int = 0) -> list[str]:
    """The last lines of a log that are not blank, secrets as stars; a line drawn over itself counts as its last state. Colours
    are left out, other control characters written out. What an earlier start of the stage has printed is left out too.

    start: bytes at the beginning that are not looked at.
    """
    try:
        with open_regular(log) as handle:
            handle.seek(max(start, log.stat().st_size - END))
            text = handle.read(END).decode("utf-8", "replace")
    except OSError:
        return []
    text = since_last_start(text)
    lines = [printable(_COLOR.sub("", line.rstrip("\r").rpartition("\r")[2])).rstrip() for line in text.split("\n")]
    return [masked(line) for line in [line for line in lines if line.strip()][-count:]]
