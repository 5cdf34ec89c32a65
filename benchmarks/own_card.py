"""A dozen set-ups measured on this machine's card, each in under a minute, as rows of the planner's format.

python -m benchmarks.own_card OWN.csv [FOLDER]    (an engine must be installed; no network is asked, models are made from nothing)

Full, LoRA and QLoRA; three lengths; with and without checkpointing; with and without Liger. Each is trained for eight steps on
packed made-up rows, so that every row is as long as its limit, through `ftc run`, which keeps peak and step time; then all
that the card has measured is written to OWN.csv, which `python -m benchmarks.memory OWN.csv` scores. FOLDER keeps what is made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from benchmarks.calibration import words

RECIPE = """\
name     = "{name}"
engine   = llamafactory
hardware {{ gpu = auto, count = 1 }}
template = qwen3_nothink
max_len  = {length}
packing  = true

sft {{
  model    = scratch(architecture = qwen3, hidden = {hidden}, layers = {layers}, heads = 16, vocab = {vocab})
  data     = file("rows.jsonl")
  duration = 8 steps
  {method}
  batch    {{ micro = {micro}, accumulate = {accumulate} }}
  memory   {{ checkpointing = {again} }}
  kernels  = {kernels}
  save     {{ every = never }}
}}
"""

LORA, QLORA = "lora { rank = 16 }", "lora { rank = 16 }\n  quantize { bits = 4 }"
DEFAULTS = {"hidden": 2048, "layers": 16, "vocab": "64k", "length": 2048, "micro": 2, "accumulate": 2, "again": "full",
            "kernels": "none", "method": "full { }"}  # fmt: skip
RUNS = {
    "full": {},
    "full, not checkpointed": {"again": "none", "micro": 1},
    "full, short rows": {"length": 512, "micro": 8},
    "full, Liger": {"kernels": "liger"},
    "LoRA": {"method": LORA},
    "LoRA, not checkpointed": {"method": LORA, "again": "none"},
    "LoRA, long rows": {"method": LORA, "length": 8192, "micro": 1},
    "LoRA, Liger": {"method": LORA, "kernels": "liger", "micro": 4},
    "QLoRA": {"method": QLORA},
    "QLoRA, short rows": {"method": QLORA, "length": 512, "micro": 8},
    "QLoRA, Liger": {"method": QLORA, "kernels": "liger", "micro": 4},
    "wide": {"method": LORA, "hidden": 4096, "layers": 8},
}


def carry_out(folder: Path) -> dict[str, str]:
    """Every run, one after the other; the environment that its measurements are kept in. A run that fails is passed over."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("\n".join(islice(words(6000), 6000)), encoding="utf-8")
    env = {**os.environ, "XDG_STATE_HOME": str(folder.absolute() / "state"), "HF_HUB_OFFLINE": "1"}
    for title, sizes in RUNS.items():
        name = "".join(letter if letter.isalnum() else "-" for letter in title)
        path = folder / f"{name}.ft"
        path.write_text(RECIPE.format(**DEFAULTS | {"name": name} | sizes), encoding="utf-8")
        command = [sys.executable, "-m", "ftdsl.cli.main", "run", path.name, "--plain"]
        done = subprocess.run(command, cwd=folder, env=env, stdout=sys.stderr, check=False)
        print(json.dumps({"run": title, "status": done.returncode}))
    return env


def main(arguments: list[str]) -> int:
    if not arguments:
        raise SystemExit("usage: python -m benchmarks.own_card OWN.csv [FOLDER]")
    target = Path(arguments[0]).absolute()
    with tempfile.TemporaryDirectory() as scrap:
        env = carry_out(Path(arguments[1] if len(arguments) > 1 else scrap))
        command = [sys.executable, "-m", "ftdsl.cli.main", "measurements", "--csv", str(target)]
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
