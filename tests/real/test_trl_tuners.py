"""Bottleneck adapters and mixtures of LoRA experts: trained, saved, loaded with equal logits without ftdsl, refused by PEFT."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftdsl.environments import folder_of, python_in
from tests.conftest import ROOT

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    python = python_in(ROOT / folder_of("trl"))
    probe = Path(__file__).with_name("tuners_probe.py")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, probe, tmp_path_factory.mktemp("tuners")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


OWN = ["bottleneck", "moe"]
ALL = ["bottleneck", "mlp", "moe", "unbalanced"]


@pytest.mark.parametrize("name", ALL)
def test_it_starts_from_the_base_and_learns(name: str, seen: dict[str, Any]) -> None:
    assert seen[name]["same_at_start"] < 1e-6
    assert seen[name]["losses"][-1] < seen[name]["losses"][0] - 0.1
    assert seen[name]["unmoved"] == []
    assert seen[name]["switched_off"] < 1e-6


@pytest.mark.parametrize("name", OWN)
def test_it_is_loaded_by_the_file_beside_it_and_refused_by_peft_alone(name: str, seen: dict[str, Any]) -> None:
    assert seen[name]["outside"] == 0.0
    assert seen[name]["peft_type"] == {"bottleneck": "FTDSL_BOTTLENECK", "moe": "FTDSL_MOE_LORA"}[name]
    assert seen[name]["plain"] == f"KeyError('{seen[name]['peft_type']}')"


@pytest.mark.parametrize("name", ALL)
def test_it_is_not_merged(name: str, seen: dict[str, Any]) -> None:
    assert "cannot be merged" in seen[name]["merge"]


def test_trainable_parameters(seen: dict[str, Any]) -> None:
    """Counted by hand for two layers of width 64 with a key and value width of 32 and an inner width of 128."""
    hidden, inner, keys, layers = 64, 128, 32, 2
    assert seen["bottleneck"]["trainable"] == layers * 2 * (2 * hidden * 16 + 16 + hidden)
    assert seen["mlp"]["trainable"] == layers * (2 * hidden * 8 + 8 + hidden)
    linears = [(hidden, hidden), (hidden, keys), (hidden, keys), (hidden, hidden)]
    linears += [(hidden, inner), (hidden, inner), (inner, hidden)]
    assert seen["moe"]["trainable"] == layers * sum(4 * (4 * (i + o) + i) for i, o in linears)


def test_gates_are_measured(seen: dict[str, Any]) -> None:
    for routing in seen["moe"]["routing"]:
        shares = [routing[f"expert_load/{number}"] for number in range(4)]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert max(shares) <= routing["expert_load/max"] <= 0.5  # top_k = 2: no expert has more than half of the load
        assert 0 < routing["gate_entropy"] <= 1
    assert seen["bottleneck"]["routing"][-1] == {}


def test_balance_keeps_the_load_even(seen: dict[str, Any]) -> None:
    """Without the balance loss one expert of a layer takes more and more; with it the load stays near 1/4."""
    assert seen["moe"]["routing"][-1]["expert_load/max"] < 0.34
    assert seen["unbalanced"]["routing"][-1]["expert_load/max"] > seen["moe"]["routing"][-1]["expert_load/max"] + 0.1
