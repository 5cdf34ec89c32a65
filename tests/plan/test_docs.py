"""What documents show of `ftc plan` is what it prints."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, ftc

SHOWN = [
    pytest.param(block[1], block[2], id=f"{path.name}: {block[1]}")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in re.finditer(
        r"^```(?:console)?\n\$ ftc (plan .*)\n((?s:.*?))^```$", path.read_text(encoding="utf-8"), re.MULTILINE
    )
]


@pytest.mark.parametrize(("command", "shown"), SHOWN)
def test_what_documents_show_is_what_is_printed(command: str, shown: str, tmp_path: Path) -> None:
    """Standard output, then standard error, as a terminal of 100 columns shows them."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = ftc(*shlex.split(command), cwd=tmp_path, COLUMNS="100")
    assert done.stdout + done.stderr == shown


def test_documents_show_plans() -> None:
    assert len(SHOWN) >= 2
