"""`best.py SPEC.json`: of several runs of a stage, the one with the best metric; its result is linked as `result`.

spec: `runs` (stage folder, run, result), `metric`, `order` (lowest or highest). Metrics are those of each run's result.json.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import events


def measured(run: dict[str, Any], metric: str) -> float | None:
    """A run's metric; None where it has none, or no number."""
    value = (events.read_result(run["stage"]) or {"metrics": {}})["metrics"].get(metric)
    return value if value is not None and math.isfinite(value) else None


def main(argv: list[str]) -> int:
    """The exit status: 1 when no run has the metric."""
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    scores = [(value, run) for run in spec["runs"] if (value := measured(run, spec["metric"])) is not None]
    if not scores:
        return events.fail(spec["stage"], f"none of the runs has a finite {spec['metric']}", "model")
    pick = min if spec["order"] == "lowest" else max
    value, run = pick(scores, key=lambda score: score[0])
    link = Path(spec["stage"]) / "result"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(run["result"], spec["stage"]), target_is_directory=True)
    print(f"{run['run']} is best of {len(scores)}: {spec['metric']} {value:g}")
    result = {"kind": "model", "path": str(link), "metrics": {spec["metric"]: value}, "chosen": run["run"]}
    events.save_result(spec["stage"], result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
