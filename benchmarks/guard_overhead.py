"""What guard and watch cost a step of a training, by a profile of it (upper bound: a profile slows Python, not torch).

    python benchmarks/guard_overhead.py [ENGINE_PYTHON]

CPU milliseconds a step that are spent in our runtime, including what it calls, but for the engine's own work that it wraps. A
long stage has steps of 0.5 s and more; the goal is 1 % of that.
"""

from __future__ import annotations

import os
import pstats
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STEPS = 200
RECIPE = """
hardware {{ gpu = none, count = 1 }}
template  = qwen3_nothink
max_len   = 32
precision = fp32
sft {{
  model    = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2, vocab = 400)
  data     = file("data/capitals.jsonl")
  duration = {steps} steps
  lora  {{ rank = 4 }}
  batch {{ global = 4, micro = 4 }}
  track {{ every = 1 steps }}
  save  {{ every = never }}
  guard {{ nan = rollback, spike = rollback, grad_norm = skip(1000), eval = warn }}
}}
"""
PROFILED = (
    "import cProfile, runpy, sys, time; sys.argv = sys.argv[2:]; p = cProfile.Profile(time.process_time); p.enable()\n"
)
PROFILED += "try: runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit: pass\np.disable(); p.dump_stats('profile')"
WHOLE = {
    "watch.py": ("on_step_begin", "on_step_end", "on_log"),
    "trainer.py": ("on_step_end", "_mean"),
    "guard.py": ("judge", "left_out"),
    "watchdog.py": ("beat",),
}
"""What the engine, or a wrapper of ours, calls at a step: with all that it calls."""
OWN = {"trainer.py": ("training_step", "compute_loss", "_get_grad_norm")}
"""Wrappers of the engine's own work: what they do themselves."""


def run(command: list[str], place: Path, env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def own_seconds(profile: Path) -> dict[str, float]:
    """Seconds by function of ours that a step calls."""
    stats: Any = pstats.Stats(str(profile))
    seconds: dict[str, float] = {}
    for (file, _, name), (_, _, own, whole, _) in stats.stats.items():
        module = Path(file).name
        if "deepspeed" not in file and "/runtime/" in file:
            for table, spent in ((WHOLE, whole), (OWN, own)):
                if name in table.get(module, ()):
                    seconds[f"{module}:{name}"] = seconds.get(f"{module}:{name}", 0.0) + spent
    return seconds


def main(argv: list[str]) -> int:
    python = Path(argv[0] if argv else ROOT / ".engines" / "llamafactory" / "bin" / "python").absolute()
    env = {**os.environ, "FTC_ENGINE_PYTHON": str(python), "FT_PYTHON": str(python), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "data").symlink_to(ROOT / "examples" / "data")
        (place / "r.ft").write_text(RECIPE.format(steps=STEPS), encoding="utf-8")
        run([sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain", "--foreground"], place, env)
        last = place / "runs" / "r" / "last"
        stage = next(last.glob("*-sft"))
        shutil.rmtree(stage / "result")
        run(
            [str(python), "-c", PROFILED, "-", "runtime/llamafactory.py", "train", f"{stage.name}/stage.json"],
            last,
            env,
        )
        found = own_seconds(last / "profile")
    total = sum(found.values()) / STEPS * 1000
    for name, seconds in sorted(found.items(), key=lambda item: -item[1])[:12]:
        print(f"{name:40} {seconds / STEPS * 1000:8.3f} ms a step")
    print(f"{'all':40} {total:8.3f} ms a step: {total / 500:.2%} of a step of 0.5 s (goal 1 %)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
