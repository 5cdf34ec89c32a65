"""`scores.py SPEC.json`: the scores of a stage completed: functions of the author's own over the answers, results of benchmarks,
and the differences to another model.

Standard library alone: it runs in the environment of the engine or of lm-eval.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if (
    not __package__
):  # run by path: its folder becomes the package `runtime`, and stands in for none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import events
from .report import Log, StageError, carried_out

Scorer = Callable[..., Any]


def complete(spec: dict[str, Any], log: Log) -> int:
    """Add to the stage's result.json. Raises: StageError."""
    result = events.read_result(spec["stage"]) or {"kind": "metrics", "path": spec["stage"]}
    metrics, lower = dict(result.get("metrics", {})), list(result.get("lower_is_better", ()))
    samples = list(result.get("samples", ()))
    if spec.get("own"):
        metrics |= own_scores(spec)
    for folder in spec.get("parts", ()):
        part = events.read_result(folder) or {}
        metrics |= part.get("metrics", {})
        lower += part.get("lower_is_better", [])
        result["aliases"] = {**result.get("aliases", {}), **part.get("aliases", {})}
        samples = (samples + part.get("samples", []))[:20]
    result |= {"metrics": metrics, "samples": samples} | ({"lower_is_better": lower} if lower else {})
    if other := spec.get("against"):
        theirs: dict[str, float] = {}
        for folder in other["parts"]:
            theirs |= (events.read_result(folder) or {}).get("metrics", {})
        result["against"] = {"stage": other["name"], "metrics": theirs, "differences": differences(metrics, theirs)}
        for name, facts in result["against"]["differences"].items():
            error = f" ± {facts['stderr']:.2g}" if "stderr" in facts else ""
            text = f"{name}: {metrics[name]:.4g}, {facts['difference']:+.4g}{error} against {other['name']}"
            print(text, flush=True)
            log.event("note", message=text)
    events.save_result(spec["stage"], result)
    return 0


def differences(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, dict[str, float]]:
    """Ours less theirs, by metric; the standard error is that of two independent measurements."""
    differences = {}
    for name, value in ours.items():
        if name.endswith("_stderr") or name not in theirs:
            continue
        differences[name] = {"difference": value - theirs[name]}
        errors = [side.get(f"{name}_stderr") for side in (ours, theirs)]
        if all(error is not None for error in errors):
            differences[name]["stderr"] = math.hypot(*(error for error in errors if error is not None))
    return differences


def own_scores(spec: dict[str, Any]) -> dict[str, float]:
    """Mean and standard error of each function over all answers; every row's scores go to scores.jsonl. Raises: StageError."""
    rows = _answers(Path(spec["predictions"]))
    kept: list[dict[str, Any]] = [{name: row.get(name) for name in ("prompt", "label", "predict")} for row in rows]
    metrics: dict[str, float] = {}
    for scorer in spec["own"]:
        function = load(scorer["path"], scorer["function"])
        values = [_score(function, scorer, row, number) for number, row in enumerate(rows, 1)]
        for row, value in zip(kept, values, strict=True):
            row[scorer["function"]] = value
        name, count = scorer["function"], len(values)
        metrics[name] = math.fsum(values) / count
        if count > 1:
            variance = math.fsum((value - metrics[name]) ** 2 for value in values) / (count - 1)
            metrics[f"{name}_stderr"] = math.sqrt(variance / count)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    Path(spec["stage"], "scores.jsonl").write_text(lines, encoding="utf-8")
    return metrics


def _answers(path: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise StageError("there are no generated answers to score", "metrics", "data", code="FT974") from error
    if not rows:
        raise StageError("there are no generated answers to score", "metrics", "data", code="FT974")
    return rows


def load(path: str, name: str) -> Scorer:
    """A function of a Python file, which is run for that. Raises: StageError."""
    file = Path(path).resolve()
    spec = importlib.util.spec_from_file_location(f"scorer_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise StageError(f"there is no Python file {path}", "metrics", code="FT974")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # what it imports lies beside it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        text = f"{path} cannot be imported: {type(error).__name__}: {error}"
        raise StageError(text, "metrics", code="FT974") from error
    finally:
        sys.path.remove(str(file.parent))
    function = getattr(module, name, None)
    if not callable(function):
        raise StageError(f"{path} has no function `{name}`", "metrics", code="FT974")
    scorer: Scorer = function
    return scorer


def _score(function: Scorer, scorer: dict[str, Any], row: dict[str, Any], number: int) -> float:
    """One row's score. Raises: StageError where the function raises, or gives no number."""
    where = f"`{scorer['function']}` of {scorer['path']}"
    given = [str(row.get("predict", "")), str(row.get("label", "")), str(row.get("prompt", ""))]
    try:
        value = function(*given[: _parameters(function)])
    except Exception as error:
        text = f"{where} fails on answer {number}: {type(error).__name__}: {error}"
        raise StageError(text, "metrics", code="FT974") from error
    try:
        score = float(value)
    except (TypeError, ValueError) as error:
        text = f"{where} gives {value!r} for answer {number}, which is no number"
        raise StageError(text, "metrics", help="return True, False or a number", code="FT974") from error
    if not math.isfinite(score):
        raise StageError(f"{where} gives {score} for answer {number}", "metrics", code="FT974")
    return score


def _parameters(function: Scorer) -> int:
    """2 for `exact(prediction, reference)`, 3 where it also takes the prompt."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    return 3 if sum(p.kind in kinds and p.default is p.empty for p in parameters) >= 3 else 2


def main(argv: list[str]) -> int:
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    return carried_out(lambda log: complete(spec, log), Log(spec["stage"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
