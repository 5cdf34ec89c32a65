"""A typo in a recipe and in a YAML: `ftc check` against the engine's own validator, time and peak memory, in one run.

The engine is asked the way its users ask it: its parser reads the file (`llamafactory.hparams.get_train_args`), which is
where `llamafactory-cli train` stops. Nothing is loaded or trained.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ftdsl.run.environments import NoEngineError, find

TIMES, ENGINE_TIMES = 15, 3
ROWS = '{"instruction": "q", "input": "", "output": "a"}\n' * 4
RECIPE = """\
hardware { gpu = none }
sft {
  model    = hf("Qwen/Qwen3-8B")
  data     = file("data/rows.json")
  duration = 1 epoch
  lora     { rnak = 8 }
}
"""
YAML = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen3-8B
dataset: rows
template: qwen3
output_dir: out
lora_rnak: 8
learning_rate: 1.0e-4
use_cpu: true
"""
VALIDATE = """
import sys, yaml
from llamafactory.hparams import get_train_args
get_train_args(yaml.safe_load(open(sys.argv[1], encoding="utf-8")))
"""


def once(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds, peak memory in MB, and what was said."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = child.stdout.read() if child.stdout else ""
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    return time.perf_counter() - start, usage.ru_maxrss / 1024, said


def measure(name: str, command: list[str], folder: Path, times: int, needle: str) -> None:
    """A row: best and median time, peak memory. Raises: AssertionError when the typo was not found."""
    found = [once(command, folder) for _ in range(times + 1)][1:]  # the first one may have compiled modules
    assert all(needle in said for _, _, said in found), found[0][2][-400:]
    spent = [seconds for seconds, _, _ in found]
    memory = max(megabytes for _, megabytes, _ in found)
    print(f"{name:40} {min(spent) * 1000:9.0f} {statistics.median(spent) * 1000:10.0f} {memory:9.0f}")


def main() -> None:
    """A table: who was asked, best ms, median ms, peak MB."""
    ftc = [sys.executable, "-m", "ftdsl.cli.main", "check"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "data").mkdir()
        for name, text in (("recipe.ft", RECIPE), ("train.yaml", YAML), ("data/rows.json", ROWS),
                           ("data/dataset_info.json", '{"rows": {"file_name": "rows.json"}}')):  # fmt: skip
            (folder / name).write_text(text, encoding="utf-8")
        print(f"{'':40} {'best ms':>9} {'median ms':>10} {'peak MB':>9}")
        measure("ftc check recipe.ft", [*ftc, "recipe.ft"], folder, TIMES, "`rank`")
        measure("ftc check train.yaml", [*ftc, "train.yaml"], folder, TIMES, "`lora_rank`")
        try:
            engine = find("llamafactory", os.environ)
        except NoEngineError as error:
            print(f"the engine's own validator was not asked: {error}")
            return
        command = [str(engine.python), "-c", VALIDATE, "train.yaml"]
        measure(f"LLaMA-Factory {engine.packages['llamafactory']}", command, folder, ENGINE_TIMES, "lora_rnak")


if __name__ == "__main__":
    main()
