"""`python -m ftdsl.catalog.generate [--check]`: every table of facts is held to its shape (shapes.py) and becomes JSON."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from ftdsl.catalog.shapes import problems

DATA = Path(__file__).parent / "data"
ENGINES = Path(__file__).parent.parent / "engines"

TABLES = ("vocabulary", "gpus", "changes", "models", "prices", "faults", "misnamed", "tools", "written", "smoke", "facts")
ENGINE_TABLES = ("overlay", "reasons")


def _pairs() -> Iterator[tuple[Path, Path]]:
    """TOML and the JSON made of it; an engine's tables lie in its folder."""
    for name in TABLES:
        yield DATA / f"{name}.toml", DATA / f"{name}.json"
    for folder in sorted(ENGINES.iterdir()):
        for name in ENGINE_TABLES:
            if (folder / f"{name}.toml").exists():
                yield folder / f"{name}.toml", DATA / f"{folder.name}-{name}.json"


PAIRS = tuple(_pairs())
"""TOML is for people; JSON loads in a tenth of the time."""


def generated(source: Path) -> str:
    """The JSON of a TOML file, one table a line, so that differences can be read."""
    tables = tomllib.loads(source.read_text(encoding="utf-8"))
    lines = [f"{json.dumps(name)}: {json.dumps(table, ensure_ascii=False)}" for name, table in tables.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(check: bool) -> int:
    """Write what is out of date, or (check) only say so: exit 1. A table that breaks its shape is never written: exit 1."""
    wrong = [
        text for source, _ in PAIRS for text in problems(source, tomllib.loads(source.read_text(encoding="utf-8")))
    ]
    if wrong:
        print("\n".join(wrong))
        return 1
    stale = [
        target
        for source, target in PAIRS
        if not target.exists() or target.read_text(encoding="utf-8") != generated(source)
    ]
    for target in stale:
        print(f"{target.name} is out of date" if check else f"wrote {target.name}")
    if not check:
        for source, target in PAIRS:
            target.write_text(generated(source), encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
