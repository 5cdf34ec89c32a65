"""Pages whose commands are run: `python -m tests.tutorial` writes what they print into docs/tutorial and docs/zh.

A fence ```` ```ft title="a.ft" ```` is a file, and stays for the rest of the page. In a fence ```` ```console ```` each line that
begins with `$ ` is a command, and what follows is what it prints. What trains (`ftc run`), or reads what was trained, prints
something else each time: it is shown as it was once, and neither run nor compared.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.command import Ended
from tests.conftest import NOWHERE, ROOT, ftc

PAGES = sorted(path for folder in ("tutorial", "zh") for path in (ROOT / "docs" / folder).glob("*.md"))
FENCE = re.compile(r'^```(ft|jsonl|console|yaml)(?: title="([\w./-]+)")?\n(.*?)^```$', re.M | re.S)
TRAINS = ("run", "diagnose", "report", "status", "logs", "data")


@dataclass
class Fence:
    """A part of a page: its language, the file it is, its text, and where that text is in the page."""

    language: str
    title: str
    text: str
    span: tuple[int, int]


def fences(page: str) -> Iterator[Fence]:
    for match in FENCE.finditer(page):
        yield Fence(match[1], match[2] or "", match[3], match.span(3))


def commands(text: str) -> list[tuple[str, str]]:
    """(command, what it prints) of a console."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def trains(command: str) -> bool:
    return any(shlex.split(part)[1:2] and shlex.split(part)[1] in TRAINS for part in command.split("&&"))


def carry_out(command: str, folder: Path) -> Ended:
    """`ftc …` as a reader would type it in that folder."""
    name, *arguments = shlex.split(command)
    assert name == "ftc", f"pages run ftc alone: {command}"
    return ftc(*arguments, cwd=folder, COLUMNS="100", **NOWHERE)


def renewed(path: Path) -> str:
    """The page with what its commands print today."""
    page = path.read_text(encoding="utf-8")
    pieces, at = [], 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "examples" / "data", folder / "data")
        for fence in fences(page):
            if fence.title:
                (folder / fence.title).write_text(fence.text, encoding="utf-8")
            if fence.language != "console":
                continue
            shown = ""
            for command, printed in commands(fence.text):
                if not trains(command):
                    ended = carry_out(command, folder)
                    printed = "".join(part.strip("\n") + "\n" for part in (ended.stdout, ended.stderr) if part.strip())
                shown += f"$ {command}\n{printed}"
            pieces += [page[at : fence.span[0]], shown]
            at = fence.span[1]
    return "".join(pieces) + page[at:]


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(renewed(path), encoding="utf-8")
