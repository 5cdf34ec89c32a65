"""`python -m ftdsl.catalog.generate [--check]`: vocabulary.toml -> vocabulary.json, overlay.toml -> overlay.json."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

DATA = Path(__file__).parent / "data"
ENGINES = Path(__file__).parent.parent / "engines"

PAIRS = (
    (DATA / "vocabulary.toml", DATA / "vocabulary.json"),
    (DATA / "gpus.toml", DATA / "gpus.json"),
    (DATA / "changes.toml", DATA / "changes.json"),
    (DATA / "models.toml", DATA / "models.json"),
    (DATA / "prices.toml", DATA / "prices.json"),
    (DATA / "faults.toml", DATA / "faults.json"),
    (DATA / "misnamed.toml", DATA / "misnamed.json"),
    (DATA / "smoke.toml", DATA / "smoke.json"),
    (DATA / "facts.toml", DATA / "facts.json"),
    (ENGINES / "llamafactory" / "overlay.toml", DATA / "llamafactory-overlay.json"),
    (ENGINES / "llamafactory" / "reasons.toml", DATA / "llamafactory-reasons.json"),
)
"""TOML is for people; JSON loads in a tenth of the time."""


def generated(source: Path) -> str:
    """The JSON of a TOML file, one table a line, so that differences can be read."""
    tables = tomllib.loads(source.read_text(encoding="utf-8"))
    lines = [f"{json.dumps(name)}: {json.dumps(table, ensure_ascii=False)}" for name, table in tables.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(check: bool) -> int:
    """Write what is out of date, or (check) only say so: exit 1."""
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
