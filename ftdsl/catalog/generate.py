"""`python -m ftdsl.catalog.generate [--check]`: checks every table of facts against its shape (shapes.py), and writes JSON."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ftdsl.catalog.shapes import problems

DATA = Path(__file__).parent / "data"
ENGINES = Path(__file__).parent.parent / "engines"

TABLES = (
    "vocabulary",
    "gpus",
    "changes",
    "models",
    "prices",
    "faults",
    "misnamed",
    "tools",
    "written",
    "smoke",
    "facts",
    "variants",
)
ENGINE_TABLES = ("overlay", "reasons")


def _pairs() -> Iterator[tuple[Path, Path]]:
    """(TOML file, generated JSON file); an engine's tables are in its own folder."""
    for name in TABLES:
        yield DATA / f"{name}.toml", DATA / f"{name}.json"
    for folder in sorted(ENGINES.iterdir()):
        for name in ENGINE_TABLES:
            if (folder / f"{name}.toml").exists():
                yield folder / f"{name}.toml", DATA / f"{folder.name}-{name}.json"


PAIRS = tuple(_pairs())
"""TOML is for editing; JSON loads ten times faster."""


def generated(source: Path) -> str:
    """The JSON of a TOML file, one table per line, so that diffs are readable."""
    tables = tomllib.loads(source.read_text(encoding="utf-8"))
    lines = [f"{json.dumps(name)}: {json.dumps(table, ensure_ascii=False)}" for name, table in tables.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(check: bool) -> int:
    """Write outdated files, or (check) only report them with exit status 1. A table with a wrong shape is an error: 1."""
    wrong = [
        text for source, _ in PAIRS for text in problems(source, tomllib.loads(source.read_text(encoding="utf-8")))
    ]
    if wrong:
        print("\n".join(wrong))
        return 1
    return update({target: generated(source) for source, target in PAIRS}, check)


def update(texts: Mapping[Path, str], check: bool) -> int:
    """Write the generated files whose text has changed, or (check) only report them with exit status 1."""
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.name} is out of date" if check else f"wrote {path.name}")
        if not check:
            path.write_text(texts[path], encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
