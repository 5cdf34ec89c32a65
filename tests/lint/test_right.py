"""No false alarms: the examples are free of all, the corpus of all but those that docs/warnings.md defends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.lint.check import CERTAIN, load
from ftdsl.pipeline import check
from ftdsl.session import Session
from tests.conftest import CORPUS, EXAMPLES, NOWHERE, ROOT

DEFENDED = set(re.findall(r"`([\w.]+\.ft)` (FT\d+)", (ROOT / "docs" / "warnings.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", [*EXAMPLES, *CORPUS], ids=lambda path: path.stem)
def test_what_is_right_is_left_alone(path: Path) -> None:
    """Data that is not here and what cannot be compiled yet are no matter of rules."""
    session = Session(env={**NOWHERE, "MODEL": "x", "HF_HOME": "/tmp"})
    check(path, Options(), session)
    rules = load().keys() - set(CERTAIN)
    found = {one.code for one in session.sink if one.code in rules and one.severity.value != "info"}
    assert {(path.name, code) for code in found} <= DEFENDED


def test_nothing_is_defended_in_vain() -> None:
    names = {path.name for path in [*EXAMPLES, *CORPUS]}
    assert all(name in names for name, _ in DEFENDED)
