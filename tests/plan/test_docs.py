"""What documents show of `ftc plan` is what it prints; `make golden` writes it anew."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import ROOT, examples_in, ftc

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^(```(?:console)?\n\$ ftc (plan .*)\n)((?s:.*?))^```$", re.MULTILINE)
SHOWN = [
    pytest.param(block[2], block[3], id=f"{path.name}: {block[2]}")
    for path in PAGES
    for block in BLOCK.finditer(path.read_text(encoding="utf-8"))
]


def printed(command: str) -> str:
    """Standard output, then standard error, as a terminal of 100 columns shows them, where nothing has run."""
    with TemporaryDirectory() as place:
        examples_in(Path(place))
        done = ftc(*shlex.split(command), cwd=Path(place), COLUMNS="100")
        assert "ftc has a bug here" not in done.stderr, done.stderr  # or it would be written into the documents
        return done.stdout + done.stderr


def rewrite() -> None:
    """Every page with what is printed now."""
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda block: f"{block[1]}{printed(block[2])}```", before)
        if after != before:
            path.write_text(after, encoding="utf-8")


@pytest.mark.parametrize(("command", "shown"), SHOWN)
def test_what_documents_show_is_what_is_printed(command: str, shown: str) -> None:
    assert printed(command) == shown


def test_documents_show_plans() -> None:
    assert len(SHOWN) >= 2
