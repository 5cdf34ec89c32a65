"""`gate.py SPEC.json [--report]`: holds the metrics of a stage against its gates; exit status 3 when one does not hold
(with --report never: a smoke run's scores mean nothing).

The spec and result.json are described in docs/build-and-run.md.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import events

COMPARISONS = {"at_least": "at least", "at_most": "at most", "no_worse": "no worse than"}
LOWER_IS_BETTER = ("loss", "perplexity")


def metrics_of(stage: str) -> dict[str, Any]:
    """Metrics in a stage's result.json; empty when there is none."""
    metrics: dict[str, Any] = (events.read_result(stage) or {}).get("metrics", {})
    return metrics


def number(value: Any) -> float:
    """A metric as a number; what is missing or not a number is NaN, and no bound holds for NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def holds(gate: dict[str, Any], result: dict[str, Any]) -> tuple[bool, str]:
    """Whether one gate holds, and the comparison in words. result: the stage's own."""
    metrics = result.get("metrics", {})
    name, bound = result.get("aliases", {}).get(gate["metric"], gate["metric"]), float(gate["bound"])
    value = number(metrics.get(name))
    shown = f"{name} = {value:g}" if not math.isnan(value) else f"{name} was not measured"
    if gate["op"] == "at_least":
        return value >= bound, f"{shown}, wanted at least {bound:g}"
    if gate["op"] == "at_most":
        return value <= bound, f"{shown}, wanted at most {bound:g}"
    compared = result.get("against", {}) if gate.get("against") else {}
    theirs = compared.get("metrics", {}) if gate.get("against") else metrics_of(gate["than"])
    other, whose = number(theirs.get(name)), compared.get("stage") or gate.get("than") or "the other model"
    if count := float(gate.get("stderrs") or 0):
        error = math.hypot(*(number(side.get(f"{name}_stderr")) for side in (metrics, theirs)))
        if math.isnan(error):
            return False, f"{shown}, and it has no standard error to compare {whose} by"
        bound += count * error
    lower = name.endswith(LOWER_IS_BETTER) or name in result.get("lower_is_better", ())
    worst = other + bound if lower else other - bound
    fine = value <= worst if lower else value >= worst
    slack = f" give or take {bound:.4g}" if bound else ""
    slack += f" ({count:g} standard error{'s' * (count != 1)} of the difference)" if count else ""
    return fine, f"{shown}, wanted no worse than {other:g} of {whose}{slack}"


def main(argv: list[str]) -> int:
    """Print each comparison; 0 when all hold, 3 when one does not."""
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    result = events.read_result(spec["stage"]) or {}
    metrics, log = result.get("metrics", {}), Path(spec["stage"], events.METRICS)
    refused = 0
    for gate in spec["gates"]:
        fine, text = holds(gate, result)
        print(f"gate ({spec['where']}): {text}: {'holds' if fine else 'REFUSED'}", flush=True)
        refused += not fine
        parts = {key: gate.get(key) for key in ("metric", "op", "bound", "than")}
        value = None if math.isnan(number(metrics.get(gate["metric"]))) else number(metrics.get(gate["metric"]))
        events.append(log, "gate", **parts, value=value, holds=fine, message=f"{text} ({spec['where']})")
        if "--report" in argv[1:]:
            events.append(log, "note", message=f"gate {'holds' if fine else 'would refuse'}: {text}")
    return 3 if refused and "--report" not in argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
