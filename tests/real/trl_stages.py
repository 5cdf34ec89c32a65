"""Recipes for TRL, compiled by `ftc`, whose stages then run one after the other in one process of TRL's Python (trl_probe.py):
importing torch and TRL takes longer than a training of a toy.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ftdsl.run.environments import Environment
from tests.conftest import ROOT, ftc
from tests.real.trained import write_rows

HEAD = """
engine = trl
hardware { gpu = none, count = 1 }
template = qwen3_nothink
max_len = 32
duration = 4 steps
batch { micro = 4 }
track { every = 1 steps }
optim { lr = 1e-2 }
save { every = never }
let tiny = scratch(architecture = qwen3, hidden = 64, layers = 2, heads = 4, vocab = 400)
"""


def carried_out(place: Path, text: str, trl: Environment, *, head: str = HEAD) -> dict[str, dict[str, Any]]:
    """Compile and run: stage -> what the probe saw."""
    write_rows(place)
    (place / "r.ft").write_text(head + text, encoding="utf-8")
    done = ftc("compile", "r.ft", cwd=place)
    assert done.returncode == 0, done.stderr
    folder = place / "run"
    shutil.copytree(place / "build" / "r", folder, ignore=shutil.ignore_patterns("inputs"))
    (folder / "inputs").symlink_to(place)
    shutil.copy(ROOT / "tests" / "real" / "trl_probe.py", folder / "probe.py")
    names = (path.parent.name for path in folder.glob("*/launch.sh"))
    manifest = sorted(names, key=lambda name: int(name.partition("-")[0]))
    python, env = str(trl.python), {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in manifest:
        if "scratch" in name:
            argv = [python, "runtime/scratch.py", f"{name}/scratch.json"]
            subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True, timeout=120)
    stages = [f"{name}/stage.json" for name in manifest if (folder / name / "stage.json").exists()]
    argv = [python, "probe.py", *stages]
    finished = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-4000:]
    report: dict[str, dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])
    failed = [name for name, found in report.items() if found["status"]]
    assert not failed, f"{failed}\n{finished.stderr[-4000:]}"
    return report
