"""Gates: bounds, comparisons, and what was not measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("metric", "op", "bound", "value", "status"),
    [
        ("rouge_l", "at_least", 30.0, 30.0, 0),
        ("rouge_l", "at_least", 30.0, 29.9, 3),
        ("loss", "at_most", 1.0, 0.5, 0),
        ("loss", "at_most", 1.0, 1.5, 3),
        ("loss", "at_most", 1.0, "nan", 3),
        ("loss", "at_most", 1.0, None, 3),
        ("rouge_l", "no_worse", 0.0, 50.0, 0),
        ("rouge_l", "no_worse", 0.0, 49.0, 3),
        ("rouge_l", "no_worse", 2.0, 49.0, 0),
        ("loss", "no_worse", 0.0, 1.9, 0),
        ("loss", "no_worse", 0.0, 2.1, 3),
    ],
)
def test_gates(metric: str, op: str, bound: float, value: object, status: int, tmp_path: Path) -> None:
    for folder, metrics in (
        ("20-e", {metric: value} if value is not None else {}),
        ("10-b", {"rouge_l": 50, "loss": 2}),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "result.json").write_text(json.dumps({"metrics": metrics}), encoding="utf-8")
    gate = {"metric": metric, "op": op, "bound": bound, "than": "10-b" if op == "no_worse" else None}
    (tmp_path / "gate.json").write_text(
        json.dumps({"stage": "20-e", "where": "r.ft:9", "gates": [gate]}), encoding="utf-8"
    )
    program = ROOT / "ftdsl" / "runtime" / "gate.py"
    command = [sys.executable, "-I", str(program), "gate.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "r.ft:9" in done.stdout
