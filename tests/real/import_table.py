"""`python -m tests.real.import_table`: writes the table of docs/import.md from LLaMA-Factory's own examples.

With a folder it prints the table of another checkout of LLaMA-Factory, scripts and DeepSpeed files too, and counts.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ftdsl.importers.checking import check
from ftdsl.importers.files import find
from ftdsl.importers.imports import Imported, import_all
from ftdsl.importers.verify import OURS
from ftdsl.session import Session
from tests.conftest import ROOT
from tests.real.sources import configurations, llamafactory

DEFENDED = ("FT001", "FT009", "FT051", "FT102", "FT210", "FT213", "FT222", "FT309", "FT410", "FT501")
"""Codes that LLaMA-Factory's own examples raise, each defended in docs/import.md."""
PAGE = ROOT / "docs" / "import.md"
START, END = "<!-- table: python -m tests.real.import_table -->", "<!-- end of table -->"


@dataclass
class Row:
    """One example: what it is, what it became, what differs; `checked`: codes of what `ftc check` says of the file."""

    path: Path
    kind: str
    made: Imported | None
    messages: list[str]
    checked: list[str]

    @property
    def unexplained(self) -> list[str]:
        stages = self.made.differences.values() if self.made else ()
        return [str(one) for differences in stages for one in differences if not one.why]

    @property
    def explained(self) -> list[str]:
        stages = self.made.differences.values() if self.made else ()
        return [f"`{d.name}`: {d.why}" for stage in stages for d in stage if d.why and d.name not in OURS]

    @property
    def errors(self) -> list[str]:
        return [one.message for one in self.made.diagnostics if one.severity.value == "error"] if self.made else []


def rows(root: Path | None = None, endings: tuple[str, ...] = (".yaml",)) -> list[Row]:
    """Every example, imported where its own files can be seen."""
    here = Path.cwd()
    os.chdir(root or llamafactory())
    try:
        return [row(path) for path in configurations(Path(), endings)]
    finally:
        os.chdir(here)


def row(path: Path) -> Row:
    checking = Session()
    check(path, checking)
    codes = sorted({one.code for one in checking.sink if one.severity.value != "info"})
    session = Session()
    found = find([(path, path.read_text(encoding="utf-8"))], session)
    messages = [one.message for one in session.sink]
    if not found.starts:
        return Row(path, "v1" if any("v1" in text for text in messages) else "none", None, messages, codes)
    kind = "accelerate" if found.accelerate else "deepspeed" if found.deepspeed else found.starts[0].config.kind
    made = import_all(found.starts, path.stem, Path("recipe.ft"), [], session)
    return Row(path, kind, made, [f"{note.word}: {note.text}" for note in made.notes], codes)


def text_of(one: Row) -> str:
    if one.made is None:
        return one.messages[0] if one.messages else "not imported"
    if not one.made.differences:
        what = {"chat": "no stage: its words stand at file level", "accelerate": "`hardware`, `parallel`, `launch`"}
        parts = [what.get(one.kind, "nothing to compile")]
    else:
        parts = [f"**not explained**: {text}" for text in one.unexplained] or ["equal"]
    parts += one.explained
    parts += [f"`ftc check`: {text}" for text in one.errors]
    return "; ".join(dict.fromkeys(parts)).replace("|", "\\|")


def table(found: list[Row]) -> str:
    lines = ["| example | comes back | `ftc check` |", "|---|---|---|"]
    old = [one for one in found if one.kind != "v1"]
    lines += [
        f"| {one.path.relative_to('examples').as_posix()} | {text_of(one)} | {' '.join(one.checked)} |" for one in old
    ]
    new = [one for one in found if one.kind == "v1"]
    lines += [f"| v1/… ({len(new)} files) | {' / '.join(dict.fromkeys(map(text_of, new)))} | FT051 |"]
    return "\n".join(lines)


def page(found: list[Row]) -> str:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return f"{before}{START}\n{table(found)}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    sys.setrecursionlimit(20_000)
    if sys.argv[1:]:
        other = rows(Path(sys.argv[1]), (".yaml", ".json", ".sh"))
        print(table(other), Counter(one.kind for one in other))
    else:
        PAGE.write_text(page(rows()), encoding="utf-8")
