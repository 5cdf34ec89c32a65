"""The data stage on a large file beside `datasets` reading and hashing the same rows: MB/s, ratio, peak memory.

python benchmarks/data_stage.py [MEGABYTES] [--near] [--alone]      default 200; under a Python that has `datasets` (an engine's)

Both read JSON Lines, parse every row and hash its content. The data stage also checks each row, drops equal ones
(`--near`: those 85% alike too), holds 5% out and writes both parts, a report and a card. Peak memory is that of all
processes together (their own pages and their share of shared ones, mapped files among them; sampled ten times a second).
`--alone` leaves `datasets` out.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

RUNTIME = Path(__file__).parent.parent / "ftdsl" / "runtime"
DATASETS = """
import sys, hashlib, json, os
from datasets import load_dataset
rows = load_dataset("json", data_files=sys.argv[1], split="train", cache_dir="cache")
hashed = rows.map(
    lambda row: {"digest": hashlib.blake2b(json.dumps(dict(row), sort_keys=True).encode(), digest_size=8).hexdigest()},
    num_proc=len(os.sched_getaffinity(0)),
)
print(len(hashed))
"""


def make(path: Path, megabytes: int) -> None:
    """Rows of about 400 bytes, one in a hundred twice."""
    rng = random.Random(0)
    words = [f"word{n}" for n in range(500)]
    halves = [" ".join(rng.choices(words, k=12)) for _ in range(4096)]
    with path.open("w", encoding="utf-8") as handle:
        number, written = 0, 0
        while written < megabytes * 1_000_000:
            rows = []
            for _ in range(1000):
                number += rng.random() > 0.01
                text = f"{rng.choice(halves)} {rng.choice(halves)}"
                rows.append(f'{{"instruction": "{number} {text}", "input": "", "output": "{text}"}}')
            rows += rows[:10]
            written += handle.write("\n".join(rows) + "\n")


@dataclass
class Cost:
    """Seconds, of the clock and of all cores, and MB of all processes at their most."""

    seconds: float
    cores: float
    memory: float


def measure(command: list[str], folder: Path) -> Cost:
    start, most = time.perf_counter(), 0.0
    before = os.times()
    log = folder / "log.txt"
    with log.open("w") as out, subprocess.Popen(command, cwd=folder, stdout=out, stderr=out) as process:
        while process.poll() is None:
            most = max(most, sum(map(_proportional, _family(process.pid))))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(log.read_text(encoding="utf-8", errors="replace"))
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - start, spent, most)


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def _proportional(pid: int) -> float:
    """MB of a process, shared pages by its share of them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1000


def main(megabytes: int, dedupe: str, *, alone: bool) -> None:
    """Both, and their ratio."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder / "rows.jsonl", megabytes)
        size = (folder / "rows.jsonl").stat().st_size / 1e6
        (folder / "runtime").symlink_to(RUNTIME)
        spec = {
            "stage": "10-rows", "where": "", "format": "alpaca", "roles": {}, "drop": [], "dedupe": dedupe, "near": 0.85,
            "seed": 42, "columns": {"prompt": "instruction", "query": "input", "response": "output"},
            "holdout": {"eval": {"share": 0.05}, "seed": 7}, "sources": [{"path": "rows.jsonl"}],
        }  # fmt: skip
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        ours = measure([sys.executable, "-m", "runtime.data", "spec.json"], folder)
        report = json.loads((folder / "10-rows" / "report.json").read_bytes())
        for path in (folder / "10-rows").glob("*.jsonl"):
            path.unlink()
        theirs = None if alone else measure([sys.executable, "-c", DATASETS, "rows.jsonl"], folder)
    cores = len(os.sched_getaffinity(0))
    print(f"{size:,.0f} MB, {sum(report['read'].values()):,} rows, {cores} cores")
    print(f"data stage: {_said(ours, size)}; {report['splits']}, dropped {report['dropped']}")
    if theirs is None:
        return
    print(f"datasets:   {_said(theirs, size)}")
    print(
        f"the data stage takes {ours.seconds / theirs.seconds:.2f} x the time and {ours.memory / theirs.memory:.2f} x the memory"
    )


def _said(cost: Cost, size: float) -> str:
    clock = f"{cost.seconds:.1f} s ({size / cost.seconds:.0f} MB/s)"
    return f"{clock}, {cost.cores:.1f} s of cores ({size / cost.cores:.0f} MB/s a core), {cost.memory:,.0f} MB of memory at most"


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(numbers[0] if numbers else 200, "near" if "--near" in sys.argv else "exact", alone="--alone" in sys.argv)
