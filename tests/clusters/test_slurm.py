"""Stages on a real Slurm: chains, arrays, gates, what is refused, and a controller that is away. No engine is needed."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdsl.observe.progress import Status
from ftdsl.run.cache_keys import CacheKeys
from ftdsl.run.fingerprint import kept_digests
from ftdsl.run.launchers.local import LocalLauncher
from ftdsl.run.launchers.registry import living_start
from ftdsl.run.launchers.slurm import SlurmLauncher
from ftdsl.run.outcome import Outcome
from ftdsl.run.prepare import StillRunningError, Wishes, joinable
from ftdsl.run.store import BusyError
from ftdsl.targets.write import write
from tests.clusters.conftest import compiled_in
from tests.clusters.slurm import Slurm, missing
from tests.conftest import ROOT, ftc_process, until

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


def test_a_controller_that_is_away(run_there: Run, on_cluster: Slurm, tmp_path: Path) -> None:
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
    events = tmp_path / "runs" / "r" / "last" / "events.jsonl"
    # squeue gives up only after several seconds, of which a busy machine makes more
    until(lambda: "Slurm does not answer" in events.read_text(encoding="utf-8"), "a queue that does not answer")
    until(lambda: '"done"' in events.read_text(encoding="utf-8"), "the end of the first stage")
    back = time.time()
    on_cluster.start_controller()
    thread.join()
    (outcome,) = outcomes
    assert outcome.status == 0, [one.message for one in outcome.problems]
    ended = {event["stage"]: event["time"] for line in events.read_text(encoding="utf-8").splitlines()
             if (event := json.loads(line)).get("status") == "done"}  # fmt: skip
    assert ended["first"] < back, "its end was known while nobody answered"


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


def test_a_stage_is_not_started_here_while_it_runs_there(run_there: Run, on_cluster: Slurm, tmp_path: Path) -> None:
    """Whoever runs the same recipe without the cluster is told; a view and `ftc clean` see that it lives."""
    text = 'target = slurm()\nshell s { run = "sleep 20; true > {s.path}" }'
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run_there(text)))
    thread.start()
    until(lambda: "RUNNING" in on_cluster.run("squeue", "-h", "-o", "%T").stdout, "a stage that runs")
    run = tmp_path / "runs" / "r" / "last"
    start = living_start(run.resolve(), "10-s")
    assert start is not None
    assert start[0].name == "slurm"
    with pytest.raises((StillRunningError, BusyError)):
        run_there(text, target="bash")
    keys = CacheKeys((), tmp_path, {}, kept_digests())
    with pytest.raises(StillRunningError, match="Slurm's job"):
        joinable((), keys, Wishes(), tmp_path / "runs" / "r", LocalLauncher())
    thread.join()
    assert outcomes[0].status == 0


SEEN_BY_ONE = """
target = slurm(exclude = "n1")
shell s { run = "true > {s.path}" }
"""


def test_a_folder_that_a_node_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_there: Run) -> None:
    """The run folder lies on a disk of this machine's own."""
    with Slurm(2, hidden={"n2": [tmp_path]}) as cluster:
        for name, value in cluster.env.items():
            monkeypatch.setenv(name, value)
        outcome = run_there(SEEN_BY_ONE)
    assert outcome.status == 1
    (problem,) = outcome.problems
    assert "n2 does not see" in problem.message, problem.message
    assert "all nodes share" in problem.help
    assert problem.span is not None
    assert problem.span.text == 'slurm(exclude = "n1")'


def test_a_python_that_a_node_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_there: Run) -> None:
    partitions = {"main": "Nodes=ALL", "one": "Nodes=n1", "two": "Nodes=n2"}
    with Slurm(2, hidden={"n2": [Path(sys.executable).parent]}, partitions=partitions) as cluster:
        for name, value in cluster.env.items():
            monkeypatch.setenv(name, value)
        outcome = run_there(SEEN_BY_ONE)
        look = ("doctor", "--target", "slurm", "--on-a-node", "--engine-python", sys.executable, "--partition")
        seen, unseen = (ftc_process(*look, name, cwd=tmp_path) for name in ("one", "two"))
    assert outcome.status == 1
    (problem,) = outcome.problems
    assert "n2 does not see the Python that runs the stage" in problem.message, problem.message
    assert "--engine-python" in problem.help
    assert problem.span is not None
    assert problem.span.text == 'slurm(exclude = "n1")'
    assert seen.returncode == 0, seen.stdout
    assert f"n1 sees {tmp_path}" in seen.stdout
    assert unseen.returncode == 1
    assert f"n2 has no {sys.executable}" in unseen.stdout


def test_a_tools_python_that_a_node_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: `submit.sh` passes the variable of the tool on, and the node looks for that Python, not for the engine's."""
    tools, place = tmp_path / "tools", tmp_path / "project"
    for folder in (tools, place / "toy"):
        folder.mkdir(parents=True)
    (tools / "python").symlink_to(sys.executable)
    (place / "toy" / "config.json").write_text('{"model_type": "qwen3"}', encoding="utf-8")
    text = 'target = slurm(exclude = "n1", requeue = 0)\neval exam { model = file("toy"), tasks = [gsm8k] }'
    compiled, session = compiled_in(place, text)
    assert compiled is not None, [one.message for one in session.sink.ordered()]
    assert write(place / "build", compiled.files, place, session)  # type: ignore[attr-defined]
    monkeypatch.setenv("FT_PYTHON", sys.executable)
    monkeypatch.setenv("FT_LM_EVAL_PYTHON", str(tools / "python"))
    with Slurm(2, hidden={"n2": [tools]}) as cluster:
        done = cluster.run("bash", str(place / "build" / "submit.sh"), str(place / "by-hand"))
        assert done.returncode == 0, done.stderr
        until(lambda: not cluster.run("squeue", "-h", "-t", "PD,R,CG").stdout, "an empty queue")
    folder = next((place / "by-hand").glob("*-exam"))
    assert f"n2 does not see {tools}/python" in (folder / "log.txt").read_text(encoding="utf-8")
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["event"], last["code"]) == ("end", "FT900")


def test_the_doctor_says_what_there_is(on_cluster: Slurm, tmp_path: Path) -> None:
    done = ftc_process("doctor", "--target", "slurm", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "controller: answers",
        "partition main*: 2 nodes of 4 cores, no GPU, at most 1:00:00",
        "accounting: none",
    ):
        assert line in done.stdout, done.stdout


WIDE = """
hardware { gpu = h100(80GB), count = 8, nodes = NODES }
target = slurm(partition = "gpu", time = 8h, cpu_partition = "cpu")
data rows { source = file("rows.jsonl") }
sft { model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch, full {}, parallel { strategy = zero3 } }
"""


@pytest.fixture(scope="module")
def wide() -> Iterator[Slurm]:
    """16 nodes of 8 GPUs, and nodes without."""
    if why := missing():
        pytest.skip(why)
    partitions = {"gpu": "Nodes=ALL MaxTime=1440", "cpu": "Nodes=n1 MaxTime=600"}
    with Slurm(16, cpus=192, memory=1_900_000, gpus=8, partitions=partitions) as started:
        yield started


MULTI_NODE = [
    (path, profile)
    for path, profile in ((ROOT / "tests/corpus/35_multinode.ft", ""), (ROOT / "tests/corpus/35_multinode.ft", "elastic"),
                          (ROOT / "examples/handbook_14b.ft", "three_d"), (ROOT / "examples/align_8gpu.ft", ""))
]  # fmt: skip


@pytest.mark.parametrize(("path", "profile"), MULTI_NODE, ids=lambda value: getattr(value, "stem", value))
def test_sixteen_nodes_take_every_example(path: Path, profile: str, wide: Slurm, tmp_path: Path) -> None:
    """`ftc plan` asks `sbatch --test-only`; nothing is submitted."""
    arguments = [
        "plan",
        str(path),
        "--target",
        "slurm",
        "--no-data",
        "--json",
        *(["--profile", profile] if profile else []),
    ]
    done = ftc_process(*arguments, cwd=tmp_path, **wide.env)
    jobs = json.loads(done.stdout)["target"]["jobs"]
    assert jobs
    assert all(job["answer"].startswith("would start at") for job in jobs), jobs
    assert not wide.run("squeue", "-h").stdout


@pytest.mark.parametrize(
    ("change", "sentence", "line"),
    [
        (("NODES", "17"), "nodes 17", 2),
        (("count = 8", "count = 9"), "gpus-per-node 9", 2),
        (("h100(80GB), count = 8,", "h100(80GB), count = 8, memory = 9000GB,"), "mem 8583069M", 2),
        (("time = 8h", "time = 80h"), "time limit of 4800 min", 3),
        (('"gpu"', '"gpuu"'), "no such partition `gpuu`", 3),
        (("time = 8h", 'time = 8h, reservation = "mine"'), "reservation `mine`", 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sixteen_nodes_refuse_what_is_wrong(
    change: tuple[str, str], sentence: str, line: int, wide: Slurm, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "q", "input": "", "output": "a"}\n' * 9, encoding="utf-8")
    (tmp_path / "r.ft").write_text(WIDE.replace(*change).replace("NODES", "16"), encoding="utf-8")
    done = ftc_process("plan", "r.ft", "--json", cwd=tmp_path, **wide.env)
    assert done.returncode == 1, done.stdout
    problems = [problem for problem in json.loads(done.stdout)["problems"] if sentence in problem["message"]]
    assert problems, done.stdout
    assert problems[0]["line"] == line, problems[0]


BY_HAND = """
target = slurm(time = 5min)
data rows { source = file("rows.jsonl"), holdout { eval = 25% } }
shell point { after = rows, env { N in ["1", "2", "3"] }, run = "sleep 1; echo $N > {point.path}" }
shell twice { after = point, run = "cat {point.path} > {twice.path}" }
shell last  { after = rows, run = "STATUS" }
shell never { after = last, run = "true > {never.path}" }
"""


def test_submit_by_hand_and_again(on_cluster: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `ftc run`: arrays that wait point by point, what a failure cancels, and a second call that submits what is left."""
    monkeypatch.setenv("FT_PYTHON", sys.executable)
    for status, jobs in (("exit 3", 5), ("true > {last.path}", 2)):
        compiled, session = compiled_in(tmp_path, BY_HAND.replace("STATUS", status))
        assert compiled is not None, [one.message for one in session.sink.ordered()]
        assert write(tmp_path / "build", compiled.files, tmp_path, session)  # type: ignore[attr-defined]
        done = on_cluster.run("bash", str(tmp_path / "build" / "submit.sh"), str(tmp_path / "by-hand"))
        assert done.returncode == 0, done.stderr
        ids = re.findall(r": job (\d+)$", done.stdout, re.MULTILINE)
        assert len(ids) == jobs, done.stdout
        listed = ",".join(ids)
        until(lambda: not on_cluster.run("squeue", "-h", "-j", listed, "-t", "PD,R,CG").stdout, "an empty queue")  # noqa: B023
        states = on_cluster.run("squeue", "-h", "-t", "all", "-r", "-j", listed, "-o", "%T").stdout.split()
        if jobs == 5:
            assert sorted(states) == ["CANCELLED", *["COMPLETED"] * 7, "FAILED"]
        else:
            assert states == ["COMPLETED"] * 2
    folder = tmp_path / "by-hand"
    values = [path.read_text(encoding="utf-8").strip() for path in sorted(folder.glob("*-twice.*/result"))]
    assert values == ["1", "2", "3"]
    assert (folder / "10-rows" / "done").exists()
