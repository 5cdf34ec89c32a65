"""`python -m benchmarks.coverage CSV…`: how many scored rows have each value of the format; writes benchmarks/coverage.json.

The CSVs are not part of this repository. A test holds that each value the estimator accepts has rows here, or a closed form.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from benchmarks.rows import WORDS, Row, is_open, read, unmarked

COVERAGE = Path(__file__).parent / "coverage.json"
PARALLEL = ("tp", "pp", "cp", "vp")
"""Columns of a degree: their value is whether it is above 1."""
SWITCHES = ("master", "autocast", "opt_in_bwd", "kbit_prepare", "act_offload", "compile")
COLUMNS = (*WORDS, *SWITCHES, "seq_kind", "framework", "mem_kind")


def values(row: Row) -> list[tuple[str, str]]:
    """(column, value) of a row; an open cell is `?`; switches are 0 or 1."""
    cells = row.cells
    pairs = []
    for column in COLUMNS:
        text = unmarked(cells.get(column, ""))
        pairs += [(column, part) for part in text.split("+")] if column == "strategy" else [(column, text)]
        if is_open(cells.get(column, "")):
            pairs.append((column, "?"))
    pairs += [(column, ">1") for column in PARALLEL if float(unmarked(cells.get(column, "")) or 1) > 1]
    pairs += [("lora_targets", part.strip()) for part in cells.get("lora_targets", "").split(",")]
    return [(column, value) for column, value in pairs if value]


def coverage(rows: list[Row]) -> dict[str, dict[str, int]]:
    """column -> value -> scored rows that have it."""
    counts = Counter(pair for row in rows for pair in values(row))
    columns = sorted({column for column, _ in counts})
    return {column: {value: counts[column, value] for c, value in sorted(counts) if c == column} for column in columns}


def main(paths: list[str]) -> int:
    rows = [row for path in paths for row in read(Path(path)) if "1" in (row.cells["eval_mem"], row.cells["eval_tput"])]
    table = coverage(rows)
    COVERAGE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    for column, counts in table.items():
        print(f"{column:<12}", "  ".join(f"{value} {count}" for value, count in counts.items()))
    without = {
        column: [value for value in known if value not in table.get(column, {})] for column, known in WORDS.items()
    }
    for column, missing in without.items():
        if missing:
            print(f"no row: {column} = {' '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
