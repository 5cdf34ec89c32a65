"""Pages whose commands are run: `python -m tests.tutorial` writes what they print into docs/tutorial, docs/howto and docs/zh;
pages of docs/zh/tutorial have those of docs/tutorial.

A fence ```` ```ft title="a.ft" ```` is a file, and stays for the rest of the page. In a fence ```` ```console ```` each line that
begins with `$ ` is a command, and what follows is what it prints. What trains (`ftc run`), or reads what was trained, is shown as
it was once, and is not run here. On a page with the comment `REAL` the tests of the real engine run those too, and compare what
they print on stdout; `python -m tests.tutorial --real PAGE…` writes it.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ftdsl.environments import folder_of, python_in
from tests.command import Ended
from tests.conftest import NOWHERE, ROOT, ftc, ftc_process

DOCS = ROOT / "docs"
PAGES = sorted(path for folder in ("tutorial", "howto", "zh") for path in (DOCS / folder).glob("*.md"))
PAGES += [DOCS / "readers_test.md"]
TRANSLATIONS = {path: DOCS / "tutorial" / path.name for path in sorted((DOCS / "zh" / "tutorial").glob("*.md"))}
"""Pages whose files, commands and outputs are those of another page."""
FENCE = re.compile(r'^```(\w+)(?: title="([\w./-]+)")?\n(.*?)^```$', re.M | re.S)
TRAINS = ("run", "diagnose", "report", "status", "logs", "data", "search", "clean")
REAL = "<!-- run on the real engine: tests/real/test_pages.py -->"

Carry = Callable[[str, Path], str]
"""Carries a command out in a folder; returns what the page shows of it."""


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


def verb(command: str) -> str:
    return (shlex.split(command)[1:2] or [""])[0]


LOG = re.compile(r"ftc diagnose \S+\.(log|jsonl?)$")
"""A log that is a file of the page is read without an engine."""


def trains(command: str) -> bool:
    return " runs/" in command or (command.startswith("ftc ") and verb(command) in TRAINS and not LOG.match(command))


def is_real(path: Path) -> bool:
    return REAL in path.read_text(encoding="utf-8")


SHOWS = ("cat", "grep", "head", "ls", "tail")
"""Programs that only show what `ftc` wrote."""


def arguments(command: str) -> list[str]:
    """Those of `ftc …` as a reader would type it."""
    name, *rest = shlex.split(command.partition(" > ")[0])
    assert name == "ftc", f"pages run ftc and {SHOWS} alone: {command}"
    return rest


def carry_out(command: str, folder: Path) -> Ended:
    return ftc(*arguments(command), cwd=folder, COLUMNS="100", **NOWHERE)


def fast(command: str, folder: Path) -> str:
    """All that a command prints, without an engine."""
    if command.startswith(SHOWS):
        return shown(command, folder)
    ended = carry_out(command, folder)
    if into := command.partition(" > ")[2]:
        (folder / into).write_text(ended.stdout, encoding="utf-8")
        ended.stdout = ""
    return "".join(part.strip("\n") + "\n" for part in (ended.stdout, ended.stderr) if part.strip())


def shown(command: str, folder: Path) -> str:
    return subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True, check=True).stdout


def own_pythons() -> dict[str, Path]:
    """Of the engines of this checkout."""
    return {name: python_in(ROOT / folder_of(name)) for name in ("llamafactory", "trl")}


def real(command: str, folder: Path, pythons: Mapping[str, Path]) -> str:
    """What a command prints on stdout, with these engines. Progress on stderr names this machine's folders."""
    if command.startswith(SHOWS):
        return shown(command, folder)
    env = {
        "FTC_ENGINE_PYTHON": ",".join(f"{name}={python}" for name, python in pythons.items()),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        "XDG_STATE_HOME": str(folder / ".state"),
    }
    ended = ftc_process(*arguments(command), cwd=folder, timeout=540, **env)
    assert ended.stdout and "Traceback" not in ended.stderr, ended.stderr
    return (
        "".join(line.rstrip() + "\n" for line in ended.stdout.strip("\n").split("\n")) if ended.stdout.strip() else ""
    )


def renewed(path: Path, *, pythons: Mapping[str, Path] | None = None, folder: Path | None = None) -> str:
    """The page with what its commands print today; with the engines' Pythons, also of those that train.

    folder: where they run (a new one if None); pages that share it make what they have in common once.
    """
    page = path.read_text(encoding="utf-8")
    pieces, at = [], 0
    with TemporaryDirectory() as name:
        folder = folder or Path(name)
        shutil.copytree(ROOT / "examples" / "data", folder / "data", dirs_exist_ok=True)
        (folder / "ftc.toml").touch()
        for fence in fences(page):
            if fence.title:
                (folder / fence.title).parent.mkdir(parents=True, exist_ok=True)
                (folder / fence.title).write_text(fence.text, encoding="utf-8")
            if fence.language != "console":
                continue
            text = ""
            for command, printed in commands(fence.text):
                if not trains(command):
                    printed = fast(command, folder)
                elif pythons:
                    printed = real(command, folder, pythons)
                text += f"$ {command}\n{printed}"
            pieces += [page[at : fence.span[0]], text]
            at = fence.span[1]
    return "".join(pieces) + page[at:]


def followed(path: Path) -> str:
    """A translation with the files, commands and outputs of its original. Raises: ValueError if it has more or fewer."""
    page = path.read_text(encoding="utf-8")
    own, original = ([*FENCE.finditer(text)] for text in (page, TRANSLATIONS[path].read_text(encoding="utf-8")))
    pieces, at = [], 0
    for mine, theirs in zip(own, original, strict=True):
        pieces += [page[at : mine.start()], theirs[0]]
        at = mine.end()
    return "".join(pieces) + page[at:]


# --- what two runs of one command may differ in

VARIES = re.compile(
    r"\d{8}-\d{6}"  # when a run began
    r"|(?<![\w.])\d[\d,.]* ?(?:ms|s|min|h|tokens/s)(?: \d+ (?:s|min))?(?![\w])"  # how long it took
    r"|(?<![\w.])\d+\.\d+\.\d\S*"  # a version
    r"|[▁▂▃▄▅▆▇█]+"  # a curve
    r"|\| packages \|.*"
    r"|(?<=done) before\b"  # by another page, and then without a time
    r"|(?<![\w.])[\d.]+ (?:[KMG]iB|[KMG]?B)(?![\w])"  # how much memory
)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])")


def alike(shown: str, printed: str, *, relative: float = 0.2, absolute: float = 0.1) -> bool:
    """Whether two outputs say the same: words equal, numbers close; times, dates and memory of a run left out.

    Lines are compared in the order of their words: which of two equal losses is the best one is chance.
    """
    pairs = zip(_lines(shown), _lines(printed), strict=False)
    return len(_lines(shown)) == len(_lines(printed)) and all(
        words == others
        and all(
            math.isclose(one, other, rel_tol=relative, abs_tol=absolute)
            for one, other in zip(numbers, other_numbers, strict=True)
        )
        for (words, numbers), (others, other_numbers) in pairs
    )


def _lines(text: str) -> list[tuple[list[str], list[float]]]:
    """Words and numbers of each line."""
    lines = []
    for line in VARIES.sub("", text).splitlines():
        line = re.sub(r"^best\b|  best  ", " ", line)
        lines.append((NUMBER.sub("#", line).split(), [float(number) for number in NUMBER.findall(line)]))
    return sorted(line for line in lines if line[0])


def main(names: list[str]) -> None:
    os.environ.pop("FTC_ENGINE_PYTHON", None)
    with_engine = names[:1] == ["--real"]
    for path in [Path(name).absolute() for name in names[with_engine:]] or PAGES:
        if not with_engine or is_real(path):
            path.write_text(renewed(path, pythons=own_pythons() if with_engine else None), encoding="utf-8")
    for path in TRANSLATIONS:
        path.write_text(followed(path), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
