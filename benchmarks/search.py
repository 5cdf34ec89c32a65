"""`python -m benchmarks.search`: TPE against random search at equal budgets, and ASHA against a grid by steps, through `ftc run`.

The stage is no training: a shell stage computes a loss from rate, rank, batch and warm-up, shaped like the toy of
examples/search.ft (a valley over log(lr) whose floor moves with the batch, little gained by rank, divergence at high rates
without warm-up), with noise. `--engine PYTHON` searches examples/search.ft itself instead, with fewer trials.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STAGE = '''
shell score {
  run = """
    python3 - {lr} {rank} {batch} {warmup} $(dirname {score.path}) <<'P'
import json, math, random, sys, time
lr, rank, batch = (float(word) for word in sys.argv[1:4])
warmup, place = float(sys.argv[4].rstrip("%")) / 100, sys.argv[5]
noise = random.Random(repr(sys.argv[1:5])).gauss(0, 0.01)
best = -2.3 + 0.5 * math.log2(batch / 16)
floor = 0.8 + 0.25 * (math.log10(lr) - best) ** 2 + 0.15 / math.log2(rank) + 0.02 * abs(warmup - 0.08) * 10
if math.log10(lr) > best + 0.8 - 2 * warmup:
    floor += 1.5
for step in range(1, STEPS + 1):
    loss = floor + 3 * math.exp(-step / 6) + noise
    with open(place + "/metrics.jsonl", "a") as out:
        out.write(json.dumps({{"event": "eval", "step": step, "metrics": {{"loss": loss}}}}) + chr(10))
    time.sleep(PAUSE)
json.dump({{"kind": "metrics", "metrics": {{"loss": loss}}}}, open(place + "/result.json", "w"))
P
  """
}
'''
SPACE = """
let rank ~ uniform(8 .. 128)
let lr ~ log(1e-5 .. 1e-1)
let warmup ~ uniform(0% .. 20%)
let batch ~ choice(8, 16, 32)
"""
GRID = """
let rank = 64
let warmup = 8%
let lr ~ log(1e-5 .. 1e-1)
let batch ~ choice(8, 16, 32)
"""


def study(text: str, *arguments: str, name: str = "s.ft", folder: Path | None = None) -> list[dict[str, Any]]:
    """The trials of one study in a folder of its own."""
    with tempfile.TemporaryDirectory() as made:
        place = folder or Path(made)
        (place / name).write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "ftdsl.cli.main", "run", name, "--json", "--fresh", *arguments]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        trials: list[dict[str, Any]] = json.loads(done.stdout)["study"]["trials"]
        return trials


def best(trials: list[dict[str, Any]]) -> float:
    return min(next(iter(trial["values"].values())) for trial in trials if trial["state"] == "complete")


def steps(trials: list[dict[str, Any]], full: int) -> int:
    return sum(full if trial["state"] == "complete" else trial["step"] or 0 for trial in trials)


def samplers(seeds: int, budget: int) -> None:
    stage = STAGE.replace("STEPS", "30").replace("PAUSE", "0")
    found: dict[str, list[float]] = {"tpe": [], "random": []}
    for seed in range(seeds):
        for name, values in found.items():
            head = (
                f"search {{ goal = minimize(score.loss), trials = {budget}, sampler = {name}(seed = {1000 * seed}) }}\n"
            )
            values.append(best(study(head + SPACE + stage)))
    report(found, budget, "a made loss, not a training")


def report(found: dict[str, list[float]], budget: int, what: str) -> None:
    print(f"best of {budget} trials ({what}), by seed")
    for name, values in found.items():
        print(f"  {name:7} {'  '.join(f'{value:.4f}' for value in values)}   median {statistics.median(values):.4f}")


def halving(points: int) -> None:
    full = 27
    stage = STAGE.replace("STEPS", str(full)).replace("PAUSE", "0.15")
    grid = study(f"search {{ goal = minimize(score.loss), sampler = grid(points = {points}) }}\n" + GRID + stage)
    count = len(grid)
    keys = f"goal = minimize(score.loss), trials = {count}, pruner = asha(after = 1 steps, reduction = 3)"
    asha = study(f"search {{ {keys} }}\n" + GRID + stage)
    print(f"grid of {count}: best {best(grid):.4f} in {steps(grid, full)} steps")
    share = steps(asha, full) / steps(grid, full)
    print(
        f"ASHA with TPE, {count} trials: best {best(asha):.4f} in {steps(asha, full)} steps ({share:.0%} of the grid's)"
    )
    for at in range(1, count + 1):
        if any(trial["state"] == "complete" for trial in asha[:at]) and best(asha[:at]) <= best(grid):
            reached = steps(asha[:at], full)
            print(f"  the grid's best is reached after {reached} steps ({reached / steps(grid, full):.0%})")
            break


def engine(python: str, seeds: int, budget: int) -> None:
    """On the real engine: the example, without its last stage."""
    import shutil

    found: dict[str, list[float]] = {"tpe": [], "random": []}
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        shutil.copytree(ROOT / "examples", place / "examples")
        (place / "ftc.toml").touch()
        text = (ROOT / "examples" / "search.ft").read_text(encoding="utf-8").partition("## The winner")[0]
        for seed in range(seeds):
            for name, values in found.items():
                own = text.replace("tpe(seed = 7)", f"{name}(seed = {1000 * seed})").replace("= 30", f"= {budget}")
                own = own.replace("  pruner  = median(after = 20 steps)\n", "").replace(", first = 1e-3", "")
                values.append(best(study(own, "--engine-python", python, name="search.ft", folder=place / "examples")))
    report(found, budget, "examples/search.ft on LLaMA-Factory, CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--engine", metavar="PYTHON", help="search examples/search.ft with this engine's Python")
    args = parser.parse_args()
    if args.engine:
        engine(args.engine, args.seeds, args.trials)
        return
    samplers(args.seeds, args.trials)
    halving(9)


if __name__ == "__main__":
    main()
