"""Estimates of a CPU against six real runs of the engine on this machine, each told by the other five.

python -m benchmarks.calibration [FOLDER]    (an engine must be installed; about 6 minutes on an idle core)

Models are made from nothing and trained on made-up words, six steps each, through `ftc run`, which measures them; FOLDER keeps
all that is made, so that another call only reads. Printed: peak of the process and seconds of a step as measured; as estimated
before any run; as estimated with the measurements of the five others.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ftdsl.estimate import cpu
from ftdsl.plan.measured import Measured, file_name, folder_of, read
from ftdsl.session import Session

ENGINE, VERSION = "llamafactory", "0.9.5"

RECIPE = """\
name   = "{name}"
engine = llamafactory("{version}")
hardware {{ gpu = none }}
template = qwen3_nothink
max_len  = {length}

sft {{
  model    = scratch(architecture = {family}, hidden = {hidden}, layers = {layers}, heads = 8, vocab = {vocab})
  data     = file("rows.jsonl")
  limit    = 200
  duration = 6 steps
  {method}
  batch    {{ micro = {micro}, accumulate = {accumulate} }}
  memory   {{ checkpointing = {again} }}
  save     {{ every = never }}
}}
"""

DEEP = {"hidden": 512, "layers": 12, "vocab": "8k", "length": 256}
RUNS = {
    "full": {"hidden": 256, "layers": 4, "vocab": "4k", "length": 256, "micro": 8},
    "full, wide": {"family": "llama", "hidden": 1024, "layers": 4, "vocab": "16k", "length": 128, "micro": 4},
    "full, long rows": {"hidden": 256, "layers": 6, "vocab": "8k", "length": 512, "micro": 4},
    "full, checkpointed": DEEP | {"layers": 8, "micro": 2, "accumulate": 2, "again": "full"},
    "LoRA": DEEP | {"micro": 4, "method": "lora { rank = 16 }"},
    "freeze": DEEP | {"micro": 8, "method": "freeze { layers = last(2) }"},
}
DEFAULTS = {"family": "qwen3", "method": "full { }", "accumulate": 1, "again": "none", "version": VERSION}


def words(count: int, seed: int = 1) -> Iterator[str]:
    """Rows of made-up words, longer than any of the recipes takes."""
    dice = random.Random(seed)
    syllables = [a + b + c for a in "bdfghjklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "s", "l")]
    known = ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(30_000)]
    for _ in range(count):
        yield json.dumps(
            {"instruction": " ".join(dice.choices(known, k=20)), "output": " ".join(dice.choices(known, k=500))}
        )


def carry_out(folder: Path) -> dict[str, Measured]:
    """Every run that has not been done, one after the other; what each measured."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("\n".join(words(1500)), encoding="utf-8")
    env = {**os.environ, "XDG_STATE_HOME": str(folder.absolute() / "state"), "OMP_NUM_THREADS": "1"}
    session = Session(env=env)
    found: dict[str, Measured] = {}
    for title, sizes in RUNS.items():
        name = "".join(letter if letter.isalnum() else "-" for letter in title)
        place = folder / f"{name}.ft"
        place.write_text(RECIPE.format(**DEFAULTS | {"name": name} | sizes), encoding="utf-8")
        command = [sys.executable, "-m", "ftdsl.cli.main", "run", place.name, "--plain"]
        done = subprocess.run(command, cwd=folder, env=env, stdout=sys.stderr, check=False)
        if done.returncode:
            raise SystemExit(f"{title}: ftc run ended with {done.returncode}")
        found[title] = _measurement(session, name)
    return found


def _measurement(session: Session, name: str) -> Measured:
    """The newest of a recipe; a run that was done before has left its own."""
    folder = folder_of(session.env)
    assert folder is not None
    rows = [json.loads(line) for line in (folder / file_name(ENGINE, VERSION)).read_text(encoding="utf-8").splitlines()]
    at = max(number for number, row in enumerate(rows) if row["recipe"] == name)
    return read(session, ENGINE, VERSION)[at]


def run_of(one: Measured) -> cpu.Run:
    return cpu.Run(one.setup, one.usual, one.threads, one.memory, one.step)


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scrap:
        found = carry_out(Path(arguments[0] if arguments else scrap))
    print(f"{next(iter(found.values())).device}, one thread, {ENGINE} {VERSION}\n")
    print("| | peak, MiB | before any run | by the others | step, s | before any run | by the others |")
    print("|---|---|---|---|---|---|---|")
    errors: list[list[float]] = [[], [], [], []]
    for title, one in found.items():
        others = [run_of(other) for name, other in found.items() if name != title]
        cells = [f"{one.memory / 2**20:,.0f}"], [f"{one.step:.2f}"]
        for at, processor in enumerate((cpu.Processor(), cpu.calibrated(others))):
            resident = cpu.spent(one.setup, one.threads, processor).resident
            step = cpu.spent(one.usual, one.threads, processor).step
            for part, (told, right) in enumerate(((resident, one.memory), (step, one.step))):
                off = told / right - 1
                errors[2 * part + at].append(abs(off))
                cells[part].append(f"{told / 2**20:,.0f} ({off:+.0%})" if part == 0 else f"{told:.2f} ({off:+.0%})")
        print(f"| {title} | {' | '.join((*cells[0], *cells[1]))} |")
    means = [f"{statistics.mean(one):.0%}" for one in errors]
    print(f"| **mean error** | | {means[0]} | {means[1]} | | {means[2]} | {means[3]} |")
    whole = cpu.calibrated([run_of(one) for one in found.values()])
    print(f"\nby all: {whole.base / 2**20:,.0f} MiB without a model, x{whole.kept:.2f} of what comes and goes, "
          f"{whole.rate / 1e9:.0f} GFLOP/s, {whole.stream / 1e9:.1f} GB/s")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
