"""Stages on a real Slurm: chains, arrays, gates, what is refused, and a controller that is away. No engine is needed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.observe.progress import Status
from ftdsl.run.launchers.slurm import SlurmLauncher
from ftdsl.run.outcome import Outcome
from tests.clusters.slurm import Slurm
from tests.conftest import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

Run = Callable[..., Outcome]
CHAIN = """
target = slurm(partition = "main", time = 5min)
data rows { source = file("rows.jsonl"), holdout { eval = 25% } }
shell count { after = rows, run = "wc -l < {rows.path}/train.jsonl > count.txt", outputs = ["count.txt"] }
shell where { after = count, run = "hostname > where.txt", outputs = ["where.txt"], target = slurm(partition = "cpu") }
"""


def statuses(outcome: Outcome) -> dict[str, Status]:
    assert outcome.progress is not None
    return {stage.key: stage.status for stage in outcome.progress.stages}


def test_a_chain_of_stages(run_there: Run, on_cluster: Slurm) -> None:
    outcome = run_there(CHAIN)
    assert outcome.status == 0, [one.message for one in outcome.problems]
    assert outcome.progress is not None
    folder = outcome.progress.folder
    rows = len((folder / "10-rows" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    assert int((folder / "count.txt").read_text(encoding="utf-8")) == rows
    assert (folder / "where.txt").read_text(encoding="utf-8") == "n2\n", "the CPU partition's only node"
    assert run_there(CHAIN).nothing_to_do
    assert run_there(CHAIN, target="bash").nothing_to_do, "what the cluster has done is done for this machine"
