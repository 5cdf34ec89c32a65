"""What a check costs, counted and not timed: calls of functions, so that a busy machine changes nothing."""

from __future__ import annotations

import cProfile
from pathlib import Path

from ftdsl.diagnostics import Sink
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.session import Files, Session
from tests.conftest import NOWHERE


def cost(files: dict[Path, str], recipe: Path) -> tuple[int, Sink]:
    """Calls that a check of the recipe makes, and what it finds."""
    session = Session(Files(files), env=NOWHERE)
    profile = cProfile.Profile()
    profile.enable()
    try:
        check(recipe, Options(), session)
    finally:
        profile.disable()
    return sum(entry.callcount for entry in profile.getstats()), session.sink
