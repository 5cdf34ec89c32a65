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


def test_an_axis_of_a_hundred_points_is_one_array(run_there: Run, on_cluster: Slurm, tmp_path: Path) -> None:
    """Submitted as one job, each point of the second stage after its own point of the first."""
    seeds = ", ".join(f'"{number}"' for number in range(1, 101))
    text = f"""
    target = slurm(cpus = 1)
    shell point {{ env {{ N in [{seeds}] }}, run = "echo $N > {{point.path}}" }}
    shell twice {{ after = point, run = "cat {{point.path}} > {{twice.path}}" }}
    """
    outcome = run_there(text)
    assert outcome.status == 0, [one.message for one in outcome.problems]
    assert outcome.progress is not None
    ids = {json.loads((tmp_path / "runs" / "r" / "last" / stage.folder / ".slurm-job").read_text())["id"].split("_")[0]
           for stage in outcome.progress.stages}  # fmt: skip
    assert len(outcome.progress.stages) == 200
    assert len(ids) == 2, "two arrays"


def test_what_fails_takes_what_waits_for_it_along(run_there: Run, on_cluster: Slurm) -> None:
    text = """
    target = slurm()
    shell good { run = "true > {good.path}" }
    shell bad { run = "echo broken >&2; exit 9" }
    shell waits { after = [good, bad], run = "true" }
    shell alone { after = good, run = "true > {alone.path}" }
    """
    outcome = run_there(text)
    assert outcome.status == 1
    assert statuses(outcome) == {
        "good": Status.DONE, "bad": Status.FAILED, "waits": Status.SKIPPED, "alone": Status.DONE,
    }  # fmt: skip
    (problem,) = outcome.problems
    assert "status 9" in problem.message
    assert "broken" in problem.message
    assert not on_cluster.run("squeue", "-h", "-t", "PD,R").stdout, "nothing is left in the queue"


@pytest.mark.parametrize(
    ("target", "stage", "sentence", "help"),
    [
        ('slurm(partition = "gpuu")', "", "no such partition `gpuu`", "partitions: main, cpu"),
        ("slurm(time = 90h)", "", "time limit of 5400 min", "main allows 1:00:00"),
        ('slurm(partition = "cpu")', "target = slurm(time = 20min)", "time limit of 20 min", "cpu allows 10:00"),
        (
            "slurm(cpus = 2)",
            "hardware { gpu = h100, count = 8 }",
            "what is asked for: nodes 1, gpus-per-node 8",
            "no GPU",
        ),
        ("slurm(cpus = 99)", "", "cpus-per-task 99", "4 cores"),
        ("slurm(memory = 900GB)", "", "mem 858307M", ""),
        ('slurm(constraint = "infiniband")', "", "constraint `infiniband`", ""),
        ('slurm(options = ["--nonsense=3"])', "", "nonsense", ""),
    ],
)
def test_what_slurm_refuses_is_told_at_the_line(
    target: str, stage: str, sentence: str, help: str, run_there: Run
) -> None:
    outcome = run_there(f'target = {target}\nshell s {{ run = "true", {stage} }}')
    assert outcome.status == 1
    (problem,) = outcome.problems
    assert sentence in problem.message, problem.message
    assert help in problem.help, problem.help
    assert problem.span is not None
    assert any(word in problem.span.text for word in ("slurm(", "h100", "8", "3")), problem.span.text


def test_a_controller_that_is_away(run_there: Run, on_cluster: Slurm) -> None:
    """The stage ends while nobody answers; its end is known from what it left, and what waits for it runs later."""
    text = """
    target = slurm()
    shell first { run = "sleep 4; true > {first.path}" }
    shell second { after = first, run = "true > {second.path}" }
    """
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run_there(text)))
    thread.start()
    until(lambda: "RUNNING" in on_cluster.run("squeue", "-h", "-o", "%T").stdout, "a stage that runs")
    on_cluster.stop_controller()
    time.sleep(12)
    on_cluster.start_controller()
    thread.join()
    (outcome,) = outcomes
    assert outcome.status == 0, [one.message for one in outcome.problems]
    assert outcome.progress is not None
    events = (outcome.progress.folder / "events.jsonl").read_text(encoding="utf-8")
    assert "Slurm does not answer" in events


def test_a_host_that_stops_cancels_the_jobs(run_there: Run, on_cluster: Slurm) -> None:
    from ftdsl.run.stop import Stop

    stop = Stop()
    text = 'target = slurm()\nshell long { run = "sleep 60" }\nshell after { after = long, run = "true" }'

    def ask() -> None:
        until(lambda: "RUNNING" in on_cluster.run("squeue", "-h", "-o", "%T").stdout, "a stage that runs")
        stop.stop()

    thread = threading.Thread(target=ask)
    thread.start()
    outcome = run_there(text, stop=stop)
    thread.join()
    assert outcome.status == 130
    until(lambda: not on_cluster.run("squeue", "-h", "-t", "PD,R,CG").stdout, "an empty queue")
    assert run_there(text.replace("sleep 60", "true > {long.path}")).status == 0


def test_a_launcher_finds_a_start_again(run_there: Run, on_cluster: Slurm) -> None:
    """What another process started is polled by its record alone."""
    from ftdsl.run.launchers.launcher import Task

    outcome = run_there('target = slurm()\nshell s { run = "true > {s.path}" }')
    assert outcome.progress is not None
    handle = SlurmLauncher().find(Task(outcome.progress.folder, outcome.progress.stages[0].folder, {}))
    assert handle is not None
    assert SlurmLauncher().poll(handle) == 0
