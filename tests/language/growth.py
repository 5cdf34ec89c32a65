"""What a check costs, counted and not timed: calls of functions, so that a busy machine changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

from ftdsl.diagnostics import Sink
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.session import Files, Session
from tests.conftest import NOWHERE


def cost(files: dict[Path, str], recipe: Path) -> tuple[int, Sink]:
    """Calls that a check of the recipe makes, and what it finds."""
    session = Session(Files(files), env=NOWHERE)
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        check(recipe, Options(), session)
    finally:
        sys.setprofile(before)
    return calls, session.sink
