"""The data stage on a large file: seconds, MB/s and peak memory, beside a bare loop that parses and hashes the same rows.

python benchmarks/data_stage.py [MEGABYTES]      default 200
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(__file__).parent.parent / "ftdsl" / "runtime" / "data.py"
BARE = """
import hashlib, json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    row = json.loads(line)
    hashlib.blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=8).digest()
"""


def make(path: Path, megabytes: int) -> None:
    """Rows of about 400 bytes."""
    rng = random.Random(0)
    words = [f"word{n}" for n in range(500)]
    with path.open("w", encoding="utf-8") as handle:
        number = 0
        while handle.tell() < megabytes * 1_000_000:
            for _ in range(1000):
                number += 1
                text = " ".join(rng.choices(words, k=24))
                handle.write(json.dumps({"instruction": f"{number} {text}", "input": "", "output": text}) + "\n")


def measure(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and the largest memory of any child so far in MB (so the smaller one goes first)."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000


def main(megabytes: int) -> None:
    """Both, and their ratio."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder / "rows.jsonl", megabytes)
        size = (folder / "rows.jsonl").stat().st_size / 1e6
        spec = {
            "stage": "10-rows", "where": "", "format": "alpaca", "roles": {}, "drop": [], "dedupe": "none", "seed": 42,
            "columns": {"prompt": "instruction", "query": "input", "response": "output"},
            "holdout": {"eval": {"share": 0.05}, "seed": 7},
            "sources": [{"path": "rows.jsonl", "limit": None, "sample": None, "repeat": 1, "where": ""}],
        }  # fmt: skip
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        bare, _ = measure([sys.executable, "-c", BARE, "rows.jsonl"], folder)
        ours, memory = measure([sys.executable, str(PROGRAM), "spec.json"], folder)
    print(f"{size:.0f} MB: bare loop {bare:.1f} s ({size / bare:.0f} MB/s)")
    print(
        f"data stage, read twice, checked, split, written: {ours:.1f} s ({size / ours:.0f} MB/s), {memory:.0f} MB at most"
    )
    print(f"{ours / bare:.1f} x the bare loop")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
