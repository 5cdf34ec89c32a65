"""`python -m benchmarks.search`: TPE against random search at equal budgets, and ASHA against a grid by steps, through `ftc run`.

The stage is no training: a shell stage computes a loss from rate, rank, batch and warm-up, shaped like the toy of
examples/search.ft (a valley over log(lr) whose floor moves with the batch, little gained by rank, divergence at high rates
without warm-up), with noise. `--engine PYTHON` trains on the real engine instead: ASHA against a
grid of 12, then examples/search.ft, shortened.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
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


def shortened(text: str) -> str:
    """The example's search alone, with half the steps, one evaluation at the end, and no pruner."""
    text = text.partition("## The winner")[0]
    for old, new in (
        ("duration = 60 steps", "duration = 30 steps"),
        ("every = 10 steps", "every = 30 steps"),
        ("  pruner  = median(after = 20 steps)\n", ""),
        (", first = 1e-3", ""),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


def engine(python: str, seeds: int, budget: int) -> None:
    """On the real engine: examples/search.ft, shortened."""
    found: dict[str, list[float]] = {"tpe": [], "random": []}
    began, trained = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as made:
        place = examples(Path(made))
        text = shortened((place / "search.ft").read_text(encoding="utf-8"))
        for seed in range(seeds):
            for name, values in found.items():
                own = text.replace("tpe(seed = 7)", f"{name}(seed = {1000 * seed})").replace("= 30\n", f"= {budget}\n")
                trials = study(own, "--engine-python", python, name="search.ft", folder=place)
                trained += len(trials)
                values.append(best(trials))
                print(f"  seed {seed}, {name}: {values[-1]:.4f} ({time.monotonic() - began:.0f} s so far)", flush=True)
    report(found, budget, "examples/search.ft with 30 steps, on LLaMA-Factory, CPU")
    print(f"{trained} trials in {time.monotonic() - began:.0f} s")


GRID_OF_12 = """
sft from base {
  data     = capitals
  duration = 54 steps
  lora     { rank ~ choice(8, 64), alpha = 2 * rank, targets = all }
  optim    { lr ~ choice(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), schedule = cosine, warmup = 5% }
  batch    { global = 32, micro = 8 }
  save     { every = never }
  evaluate { data = capitals.eval, every = 3 steps, batch = 16 }
}

search { sampler = grid, goal = minimize(sft.eval_loss)PRUNER }
"""


def halving_on_engine(python: str) -> None:
    """A grid of 12 trainings, all of them whole, against ASHA over the same, which continues those it has paused."""
    with tempfile.TemporaryDirectory() as made:
        place = examples(Path(made))
        head = (place / "search.ft").read_text(encoding="utf-8").partition("sft from base")[0]
        rows = {}
        for name, pruner in (("grid", ""), ("ASHA", ", pruner = asha(after = 3 steps, reduction = 3)")):
            text = f'name = "{name.lower()}"\n' + head.replace('name   = "search"\n', "") + GRID_OF_12
            began = time.monotonic()
            trials = study(text.replace("PRUNER", pruner), "--engine-python", python, name=f"{name}.ft", folder=place)
            rows[name] = best(trials), sum(_trained(place / trial["run"]) for trial in trials)
            print(
                f"{name} of {len(trials)}: best {rows[name][0]:.4f} in {rows[name][1]} steps, {time.monotonic() - began:.0f} s"
            )
        print(f"ASHA's share of the steps: {rows['ASHA'][1] / rows['grid'][1]:.0%}")


def _trained(run: Path) -> int:
    """Steps that a trial's training took: its last one, or where it was paused, since no step is repeated."""
    (stage,) = run.glob("*-sft")
    events = [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    if events[-1].get("ok"):
        return max(int(event["step"]) for event in events if event["event"] == "eval")
    return max(int(path.name.rpartition("-")[2]) for path in stage.glob("result/checkpoint-*"))


def examples(place: Path) -> Path:
    """A copy of the examples in a project of its own."""
    shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("*.lock"))
    (place / "ftc.toml").touch()
    return place / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--engine", metavar="PYTHON", help="search examples/search.ft with this engine's Python")
    args = parser.parse_args()
    if args.engine:
        halving_on_engine(args.engine)
        engine(args.engine, args.seeds, args.trials)
        return
    samplers(args.seeds, args.trials)
    halving(9)


if __name__ == "__main__":
    main()
