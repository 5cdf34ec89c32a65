"""Ranks that are not what was planned, die, or are stopped: the run says so and fails, goes on, or leaves nothing behind.

Each of the first kind would end well with the engine alone, and be wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT, ftc_process
from tests.real import trained
from tests.real.conftest import launching

pytestmark = pytest.mark.real

HEAD = """
hardware { gpu = none, count = 2 }
template  = qwen3_nothink
max_len   = 128
precision = fp32
duration  = 6 steps
batch     { global = 4, micro = 2 }
track     { every = 1 steps }
save      { every = 2 steps }
"""
TINY = "scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2, vocab = 600)"
STAGE = 'sft {name} {{ model = tiny, data = file("data/alpaca_zh_demo.json"), full {{}}, {more} }}\n'
STAGES = {
    "torchrun": "launch.with = torchrun",
    "deepspeed": "launch.with = deepspeed",
    "accelerate": "launch.with = accelerate",
    "alone": 'callbacks = ["shims:Alone"]',
    "tensor": "parallel { strategy = zero1, tensor = 2 }",
    "card": "hardware { gpu = a100(80GB), count = 1 }, attention = auto, parallel.strategy = ddp",
    "half": "hardware.count = 1",
}


def build(place: Path, model: str, text: str) -> None:
    shutil.copytree(ROOT / "examples" / "data", place / "data")
    shutil.copy(Path(__file__).with_name("shims.py"), place)
    (place / "r.ft").write_text(f"{HEAD}let tiny = {model}\n{text}", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the toy made and nothing trained yet."""
    place = tmp_path_factory.mktemp("ranks")
    build(place, TINY, "".join(STAGE.format(name=name, more=more) for name, more in STAGES.items()))
    done = ftc_process("compile", "r.ft", cwd=place)
    assert done.returncode == 0, done.stderr
    shutil.copytree(place / "build" / "r", place / "run", symlinks=True)
    (place / "run" / "inputs").unlink()
    (place / "run" / "inputs").symlink_to(place)
    assert launched(place / "run", "scratch", forking).returncode == 0
    return place / "run"


def launched(folder: Path, name: str, engine: Environment, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FT_PYTHON": str(engine.python), "OMP_NUM_THREADS": "1", **more}
    script = next(folder.glob(f"*-{name}/launch.sh"))
    return subprocess.run(["bash", str(script)], env=env, capture_output=True, text=True, check=False)


ONE = "1 process was started where 2 were planned"
WRONG = [
    ("torchrun", "launch.sh", "--nproc_per_node 2", "--nproc_per_node 1", ONE),
    ("deepspeed", "launch.sh", "--num_gpus 2", "--num_gpus 1", ONE),
    ("accelerate", "accelerate.yaml", "MULTI_GPU", "MULTI_CPU", ONE),  # as one would write it on a CPU
    ("alone", "train.yaml", "use_cpu: true", "", "the engine runs 1 process where 2 were planned"),
    ("tensor", "ds_config.json", '"gather_16bit_weights_on_model_save": true', '"elastic_checkpoint": false',
     "the engine ended without writing a model"),
    ("card", "train.yaml", "seed: 42", "seed: 43", "no GPU is visible here"),
    ("half", "train.yaml", "use_cpu: true", "use_cpu: true\nfp16: true", "the engine drops fp16 on a CPU"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "name", "right", "wrong", "expected"), WRONG, ids=[stage for stage, *_ in WRONG])
def test_what_would_be_wrong_in_silence_fails(
    stage: str, name: str, right: str, wrong: str, expected: str, forking: Environment, folder: Path
) -> None:
    file = next(folder.glob(f"*-{stage}/{name}"))
    text = file.read_text(encoding="utf-8")
    assert right in text
    file.write_text(text.replace(right, wrong), encoding="utf-8")
    done = launched(folder, stage, launching(forking))
    assert done.returncode != 0, done.stdout[-3000:]
    log = (file.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(log[-1])
    assert (last["event"], last["ok"]) == ("end", False)
    assert expected in last["message"]
    assert last["keys"], "it is said at the recipe's line"


def test_a_precision_that_accelerate_was_told_besides(forking: Environment, folder: Path) -> None:
    stage = next(folder.glob("*-half"))
    config = stage / "train.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("fp16: true\n", ""), encoding="utf-8")
    done = launched(folder, "half", forking, ACCELERATE_MIXED_PRECISION="bf16")
    assert done.returncode != 0
    assert "accelerate computes in bf16, and the config sets no" in done.stderr


@pytest.fixture
def toy(folder: Path) -> str:
    return f'file("{folder}/05-scratch/result")'


def test_a_rank_that_dies_is_replaced(forking: Environment, toy: str, tmp_path: Path) -> None:
    """The launcher is started anew as a whole, and goes on from the last checkpoint."""
    build(tmp_path, toy, STAGE.format(name="sft", more='launch.retries = 1, callbacks = ["shims:Dies"]'))
    python = ("--no-preload", "--engine-python", str(launching(forking).python))
    done = ftc_process("run", "r.ft", "--plain", *python, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    stage = tmp_path / "runs/r/last/10-sft"
    events = [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    starts = [at for at, event in enumerate(events) if event["event"] == "start"]
    steps = [event["step"] for event in events[starts[-1] :] if event["event"] == "step"]
    assert len(starts) == 2
    assert steps == [3, 4, 5, 6], "from the checkpoint of step 2"
    assert "start 2 of 2" in (stage / "log.txt").read_text(encoding="utf-8")


FAULTS = {
    "killed": ("exit@4:1", "guard { nan = stop }", [("restart", "restarted")]),
    "hung": ("hang@4:1", "guard { stall = stop(5s) }", [("stall", "stop"), ("restart", "restarted")]),
}
LAYOUTS = {"ddp_full": "full {}", "zero2_lora": "lora { rank = 4 }, parallel.strategy = zero2"}
if os.environ.get("MOMENTS"):  # make moments: each start of a launcher is 4 s of CPU
    LAYOUTS |= {"ddp_lora": "lora { rank = 4 }", "zero2_full": "full {}, parallel.strategy = zero2"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_rank_that_dies_or_hangs_leaves_no_trace(layout: str, forking: Environment, toy: str, tmp_path: Path) -> None:
    """With the real launcher, whose ranks are forks: the stage ends, starts again from its last checkpoint, and learns what it
    would have learned.
    """
    stages = {"plain": ""} | {
        name: f'launch.retries = 1, {guard}, env {{ FTC_INJECT = "{fault}" }}'
        for name, (fault, guard, _) in FAULTS.items()
    }
    text = "".join(STAGE.format(name=name, more=more) for name, more in stages.items()).replace(
        "full {}", LAYOUTS[layout]
    )
    build(tmp_path, toy, text)
    python = ("--no-preload", "--engine-python", str(launching(forking).python))
    done = ftc_process("run", "r.ft", "--plain", *python, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    events = {name: trained.events_of(next(tmp_path.glob(f"runs/r/last/*-{name}"))) for name in stages}
    losses = {
        name: {event["step"]: event["loss"] for event in own if event["event"] == "step"}
        for name, own in events.items()
    }
    assert len(losses["plain"]) == 6
    for name, (_, _, ledger) in FAULTS.items():
        assert losses[name] == losses["plain"], name
        assert [(one["anomaly"], one["action"]) for one in events[name] if one["event"] == "guard"] == ledger, name


def inside(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.resolve().is_relative_to(folder):
                found.append(int(link.parent.name))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_ctrl_c_leaves_no_rank_behind(launcher: str, engine: Environment, toy: str, tmp_path: Path) -> None:
    more = f"launch {{ with = {launcher}, retries = 1 }}, duration = 5000 steps, save.every = 1000 steps"
    build(tmp_path, toy, STAGE.format(name="sft", more=more))
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain", "--engine-python", str(engine.python)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "runs/r/last/10-sft/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"step"' in log.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.1)
    run = (tmp_path / "runs/r/last").resolve()
    assert len(inside(run)) >= 3, "two ranks and who started them"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert inside(run) == []
