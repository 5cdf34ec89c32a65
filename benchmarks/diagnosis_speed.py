"""`ftc diagnose` on logs of 100,000 steps, the whole command: seconds of computing and of waiting. Exit 1 above 2 s."""

from __future__ import annotations

import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

STEPS = 100_000
MOST = 2.0


def rows() -> Iterator[dict[str, float]]:
    """A healthy training, with an evaluation each 1,000 steps."""
    draw = random.Random(1)
    for step in range(1, STEPS + 1):
        trend = 0.7 + 5 * math.exp(-step / 4000)
        yield {"step": step, "loss": trend + draw.gauss(0, 0.05), "grad_norm": draw.lognormvariate(0, 0.2),
               "epoch": step / 33_000, "learning_rate": 1e-4 * (1 - step / STEPS)}  # fmt: skip
        if step % 1000 == 0:
            yield {"step": step, "eval_loss": 1.03 * trend}


def write(folder: Path) -> list[Path]:
    """The same training in three formats."""
    logged = list(rows())
    state, lines, text = folder / "trainer_state.json", folder / "trainer_log.jsonl", folder / "train.log"
    state.write_text(json.dumps({"log_history": logged}), encoding="utf-8")
    lines.write_text("".join(json.dumps(row) + "\n" for row in logged), encoding="utf-8")
    printed = ({key: value for key, value in row.items() if key != "step"} for row in logged)
    text.write_text("".join(f"{row}\n" for row in printed), encoding="utf-8")
    return [state, lines, text]


def main() -> int:
    """One line a format."""
    slow = False
    with tempfile.TemporaryDirectory() as place:
        for path in write(Path(place)):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            command = [sys.executable, "-m", "ftdsl.cli.main", "diagnose", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            slow = slow or spent > MOST or "healthy" not in done.stdout
            print(f"{path.name:20} {path.stat().st_size / 1e6:5.1f} MB  {spent:.2f} s computing, {wall:.2f} s waiting")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
