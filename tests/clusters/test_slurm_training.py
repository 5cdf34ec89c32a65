"""Trainings of the real engine on a throw-away Slurm: over both nodes, with a node that is killed, asked to save by the signal
before the time limit; each ends with the losses of the same training on this machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.clusters.slurm import Slurm, missing
from tests.conftest import ROOT, ftc_process, until
from tests.real.conftest import engine
from tests.real.trained import TINY, write_rows

__all__ = ["engine"]
pytestmark = pytest.mark.cluster

HEAD = f"""
template  = qwen3_nothink
max_len   = 32
precision = fp32
model     = {TINY}
data      = file("rows.jsonl")
optim     {{ lr = 2e-3 }}
batch     {{ micro = 2, accumulate = 2 }}
track     {{ every = 1 steps }}
full      {{}}
"""
LONG = "duration = 700 steps, save { every = 50 steps }"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    if why := missing():
        pytest.skip(why)
    with Slurm(2, cpus=2) as started:
        yield started


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_rows(tmp_path)
    return tmp_path


def start(cluster: Slurm, place: Path, engine: Environment, *more: str) -> subprocess.Popen[bytes]:
    """`ftc run --target slurm r.ft`, which goes on while a test does something to the cluster."""
    arguments = ["run", "r.ft", "--target", "slurm", "--plain", "--engine-python", str(engine.python), *more]
    with (place / "ftc.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ftdsl.cli.main", *arguments], cwd=place, env={**os.environ, **cluster.env},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def ended(process: subprocess.Popen[bytes], place: Path, seconds: float = 300) -> None:
    """Raises: AssertionError with what ftc printed, where it did not end well."""
    status = process.wait(seconds)
    assert status == 0, (place / "ftc.log").read_text(encoding="utf-8")[-4000:]


def local(place: Path, engine: Environment, text: str) -> dict[int, float]:
    """Losses by step of the same recipe on this machine."""
    other = place / "local"
    other.mkdir()
    write_rows(other)
    (other / "r.ft").write_text(text, encoding="utf-8")
    done = ftc_process("run", "r.ft", "--plain", "--engine-python", str(engine.python), cwd=other)
    assert done.returncode == 0, done.stderr
    return losses(other)


def events(place: Path, stage: str = "10-sft") -> list[dict[str, Any]]:
    path = place / "runs" / "r" / "last" / stage / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # a line that a killed node has begun
    return found


def losses(place: Path) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in events(place) if event.get("event") == "step"}


def job_of(place: Path) -> str:
    record = json.loads((place / "runs" / "r" / "last" / "10-sft" / ".slurm-job").read_text(encoding="utf-8"))
    return str(record["id"])


def reaches(place: Path, step: int) -> Callable[[], bool]:
    return lambda: max(losses(place), default=0) >= step


def test_a_training_over_both_nodes(cluster: Slurm, place: Path, engine: Environment) -> None:
    text = f"{HEAD}\nsft {{ duration = 24 steps, hardware {{ gpu = none, count = 1, nodes = 2 }} }}"
    (place / "r.ft").write_text(text, encoding="utf-8")
    ended(start(cluster, place, engine), place)
    assert next(event for event in events(place) if event["event"] == "start")["world_size"] == 2
    log = (place / "runs" / "r" / "last" / "10-sft" / "log.txt").read_text(encoding="utf-8")
    assert "on n[1-2]" in log
    here = local(place, engine, text.replace("count = 1, nodes = 2", "count = 2"))
    assert losses(place) == here


def test_a_node_that_is_killed(cluster: Slurm, place: Path, engine: Environment) -> None:
    """Requeued by Slurm on the other node, and gone on from the last whole checkpoint."""
    text = f"{HEAD}\nsft {{ {LONG}, hardware {{ gpu = none, count = 1 }} }}"
    (place / "r.ft").write_text(text, encoding="utf-8")
    run = start(cluster, place, engine)
    until(reaches(place, 120), "step 120")
    node = cluster.run("squeue", "-h", "-j", job_of(place), "-o", "%N").stdout.strip()
    cluster.kill(node)
    ended(run, place)
    cluster.start_node(node)
    seen = events(place)
    begins = [event["step"] for event in seen if event["event"] == "start"]
    assert begins[0] == 0
    assert begins[-1] >= 100, "not from the beginning"
    assert [event["anomaly"] for event in seen if event["event"] == "guard"] == ["requeued"]
    assert losses(place) == local(place, engine, text)
    cluster.wait_for_nodes()


def test_the_signal_before_the_time_limit(cluster: Slurm, place: Path, engine: Environment) -> None:
    """The training saves where it is, the job requeues itself, and goes on from there."""
    text = f"{HEAD}\nsft {{ {LONG.replace('50 steps', '600 steps')}, hardware {{ gpu = none, count = 1 }} }}"
    (place / "r.ft").write_text(text, encoding="utf-8")
    run = start(cluster, place, engine)
    until(reaches(place, 60), "step 60")
    cluster.run("scancel", "--batch", "--signal=USR1", job_of(place))
    ended(run, place)
    begins = [event["step"] for event in events(place) if event["event"] == "start"]
    assert len(begins) == 2
    assert begins[1] >= 60, "where it was asked to save"
    assert losses(place) == local(place, engine, text)


def test_a_run_whose_supervisor_is_gone(cluster: Slurm, place: Path, engine: Environment) -> None:
    """`--detach`, and the process that watches is killed: the jobs go on, any terminal sees and cancels them, `ftc run` joins."""
    text = f"{HEAD}\nsft {{ {LONG}, hardware {{ gpu = none, count = 1 }} }}"
    text += '\nshell last { after = sft, run = "true > {last.path}" }'
    (place / "r.ft").write_text(text, encoding="utf-8")
    assert start(cluster, place, engine, "--detach").wait(60) == 0
    until(reaches(place, 20), "step 20")
    pid = int((place / "runs" / "r" / ".pid").read_text(encoding="ascii").split()[0])
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    seen = ftc_process("status", "r.ft", cwd=place, **cluster.env)
    assert "stages run without a supervisor" in seen.stdout, seen.stdout
    printed = ftc_process("logs", "r.ft", "sft", cwd=place, **cluster.env)
    assert f"job {job_of(place)} on n" in printed.stdout
    first = job_of(place)
    ended(start(cluster, place, engine), place)
    assert job_of(place) == first, "joined, not started again"
    status = json.loads(ftc_process("status", "r.ft", "--json", cwd=place, **cluster.env).stdout)
    assert [stage["status"] for stage in status["runs"][0]["stages"]] == ["cached", "done", "done"]


def test_cancelled_from_another_terminal(cluster: Slurm, place: Path, engine: Environment) -> None:
    text = f"{HEAD}\nsft {{ {LONG}, hardware {{ gpu = none, count = 1 }} }}"
    (place / "r.ft").write_text(text, encoding="utf-8")
    run = start(cluster, place, engine)
    until(reaches(place, 20), "step 20")
    done = ftc_process("cancel", "r.ft", cwd=place, **cluster.env)
    assert done.returncode == 0, done.stderr
    assert run.wait(60) == 130
    assert not cluster.run("squeue", "-h", "-t", "PD,R").stdout


def test_the_quickstart_as_on_this_machine(cluster: Slurm, tmp_path: Path, engine: Environment) -> None:
    """All stages, gate and merge included: the same metrics as `ftc run` without a cluster."""
    metrics = {}
    for target in ("bash", "slurm"):
        place = tmp_path / target
        place.mkdir()
        recipe = (ROOT / "examples" / "quickstart.ft").read_text(encoding="utf-8")
        (place / "quickstart.ft").write_text(recipe, encoding="utf-8")
        (place / "data").symlink_to(ROOT / "examples" / "data")
        arguments = ("run", "quickstart.ft", "--target", target, "--json", "--engine-python", str(engine.python))
        done = ftc_process(*arguments, cwd=place, **cluster.env)
        assert done.returncode == 0, done.stderr[-3000:]
        stages = json.loads(done.stdout)["stages"]
        timeless = {"seconds", "tokens_per_second"}
        metrics[target] = {
            stage["stage"]: {name: value for name, value in stage["metrics"].items() if name not in timeless}
            for stage in stages
        }
    assert metrics["slurm"] == metrics["bash"]
    assert len(metrics["slurm"]) == 8


REFUSING = f"""
template  = qwen3_nothink
max_len   = 32
precision = fp32
hardware {{ gpu = none, count = 1 }}
data rows {{ source = file("rows.jsonl"), holdout {{ eval = 25% }} }}
sft {{ model = {TINY}, data = rows, duration = 2 steps, batch {{ micro = 4 }}, save {{ every = never }}, lora {{}} }}
eval exam from sft {{ data = rows.eval, metrics = [loss], batch = 8, gate {{ loss = at_most(0.001) }} }}
merge from sft {{ after = exam }}
shell last {{ after = merge, run = "true > {{last.path}}" }}
"""


@pytest.mark.parametrize("supervised", [True, False], ids=["watched", "supervisor killed"])
def test_what_a_gate_refuses_is_cancelled(supervised: bool, cluster: Slurm, place: Path, engine: Environment) -> None:
    """The reason is the gate's own comparison, wherever one looks; nothing after it runs, and nothing is left in the queue."""
    (place / "r.ft").write_text(REFUSING, encoding="utf-8")
    if supervised:
        run = start(cluster, place, engine)
        assert run.wait(300) == 3, (place / "ftc.log").read_text(encoding="utf-8")
    else:
        assert start(cluster, place, engine, "--detach").wait(60) == 0
        submitted = place / "runs" / "r" / "last"
        until(lambda: (next(submitted.glob("*-last"), submitted) / ".slurm-job").exists(), "all jobs in the queue")
        os.kill(int((place / "runs" / "r" / ".pid").read_text(encoding="ascii").split()[0]), signal.SIGKILL)
    until(lambda: not cluster.run("squeue", "-h", "-t", "PD,R,CG").stdout, "an empty queue", 300)
    seen = ftc_process("status", "r.ft", cwd=place, **cluster.env)
    stages = json.loads(ftc_process("status", "r.ft", "--json", cwd=place, **cluster.env).stdout)["runs"][0]["stages"]
    status = {stage["stage"]: stage["status"] for stage in stages}
    assert {name: status[name] for name in ("exam", "merge", "last")} == {
        "exam": "refused", "merge": "skipped", "last": "skipped",
    }, seen.stdout  # fmt: skip
    exam = next(stage for stage in stages if stage["stage"] == "exam")
    assert "wanted at most 0.001" in exam["message"] and "r.ft:" in exam["message"]
    assert "wanted at most 0.001" in seen.stdout and "REFUSED" in seen.stdout
    assert all(
        "exam" in stage["message"] or "merge" in stage["message"] for stage in stages if stage["status"] == "skipped"
    )
    assert not list(place.glob("runs/r/last/*-merge/log.txt"))
