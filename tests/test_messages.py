"""What people are told, word by word: tests/golden/messages.txt is what the compiler says today."""

from __future__ import annotations

import difflib

from ftdsl.diagnostics.codes import CODES
from tests.conftest import ROOT
from tests.messages import ELSEWHERE, provoked, text_of

FILE = ROOT / "tests" / "golden" / "messages.txt"


def test_messages_are_the_committed_ones() -> None:
    """After a meant change: make golden, and read the difference as a user would."""
    wanted, found = FILE.read_text(encoding="utf-8"), text_of(provoked())
    difference = difflib.unified_diff(wanted.splitlines(), found.splitlines(), "committed", "now", lineterm="", n=1)
    assert found == wanted, "\n".join(difference)


def test_every_code_has_a_message_there() -> None:
    """A new code needs an example: in its rule's docstring, in meanings.toml, or in a table that tests.messages reads."""
    there = {line.split()[0] for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith("FT")}
    assert there <= CODES.keys()
    assert CODES.keys() - there <= ELSEWHERE
    assert ELSEWHERE - CODES.keys() == set()
