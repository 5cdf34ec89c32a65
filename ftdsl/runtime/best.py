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


def measured(run: dict[str, Any], metric: str) -> float | None:
    """A run's metric; None where it has none, or no number."""
    result = json.loads((Path(run["stage"]) / "result.json").read_text(encoding="utf-8"))
    value = result.get("metrics", {}).get(metric)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def main(argv: list[str]) -> int:
    """The exit status: 1 when no run has the metric."""
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    scores = [(value, run) for run in spec["runs"] if (value := measured(run, spec["metric"])) is not None]
    if not scores:
        print(f"error: none of the runs has a finite {spec['metric']}", file=sys.stderr)
        return 1
    pick = min if spec["order"] == "lowest" else max
    value, run = pick(scores, key=lambda score: score[0])
    place = Path(spec["stage"]) / "result"
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath(run["result"], spec["stage"]), target_is_directory=True)
    print(f"{run['run']} is best of {len(scores)}: {spec['metric']} {value:g}")
    result = {"kind": "model", "path": str(place), "metrics": {spec["metric"]: value}, "chosen": run["run"]}
    beside = place.with_name(".result.json")
    beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    beside.replace(place.with_name("result.json"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
