"""Every kind of stage we lower, on the real engine with a model made on the spot; gates, guards and processes too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from ftdsl.runtime import events
from tests.conftest import ROOT, ftc_process

pytestmark = pytest.mark.real

HEAD = """
hardware { gpu = none, count = 1 }
template = qwen3_nothink
max_len  = 128
duration = 4 steps
batch { global = 4, micro = 4 }
track { every = 1 steps }
let tiny = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2, vocab = 600)
"""
ALIGN = (
    HEAD
    + """
data rows  { source = file("data/support.jsonl"), holdout { eval = 10% } }
data pairs { source = file("data/prefs.jsonl"), columns { chosen = "chosen", rejected = "rejected" } }
sft { model = tiny, data = rows, lora { rank = 4 }, optim { lr = 1e-3 } }
reward judge from sft { data = pairs, lora { rank = 4 } }
dpo from sft { data = pairs, lora { rank = 4 }, optim { lr = 1e-4 } }
dpo more from dpo { data = pairs, optim { lr = 1e-4 } }
eval exam from more { data = rows.eval, metrics = [loss, rouge], generate { max_new_tokens = 4 }, batch = 4,
  gate { loss = at_most(20) } }
merge from more { after = exam, to = "out/{name}" }
"""
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "data")
    return tmp_path


def run(place: Path, text: str, engine: Environment) -> dict[str, Any]:
    (place / "r.ft").write_text(text, encoding="utf-8")
    done = ftc_process("run", "r.ft", "--json", "--no-preload", "--engine-python", str(engine.python), cwd=place)
    assert "Traceback" not in done.stderr, done.stderr
    document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"stages": []}
    logs = sorted((place / "runs").glob("r/last/*/log.txt"))
    tails = "\n".join(f"== {log}\n{log.read_text(encoding='utf-8', errors='replace')[-1500:]}" for log in logs[-2:])
    return document | {"code": done.returncode, "stderr": done.stderr, "tails": tails}


def test_sft_reward_dpo_eval_merge(forking: Environment, place: Path) -> None:
    document = run(place, ALIGN, forking)
    assert document["code"] == 0, document["stderr"] + document["tails"]
    folder = place / document["run"]
    for stage in ("sft", "judge", "dpo", "more"):
        lines = next(folder.glob(f"*-{stage}/metrics.jsonl")).read_text(encoding="utf-8").splitlines()
        steps = [event for event in map(json.loads, lines) if event["event"] == "step"]
        assert len(steps) == 4
        assert all(isinstance(event["loss"], float) and event["grad_norm"] is not None for event in steps)
    assert (place / "out" / "r" / "model.safetensors").exists()
    exam = next(stage for stage in document["stages"] if stage["stage"] == "exam")
    assert set(exam["metrics"]) == {"loss", "perplexity", "rouge_1", "rouge_2", "rouge_l", "bleu"}


def test_kto_and_methods(forking: Environment, place: Path) -> None:
    rows = [{"instruction": f"q{n}", "input": "", "output": f"a{n}", "label": n % 2 == 0} for n in range(24)]
    (place / "kto.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = (
        HEAD
        + """
data liked { source = file("kto.jsonl") }
kto { model = tiny, data = liked, lora { rank = 4, variant = dora } }
sft frozen { model = tiny, data = file("data/alpaca_zh_demo.json"), freeze { layers = last(1) } }
sft wsd { model = tiny, data = file("data/alpaca_zh_demo.json"), full {}, packing = plain
  optim { lr = 1e-3, schedule = [warmup(1 steps), hold(2 steps), decay(1 steps, to = 10%)] } }
"""
    )
    document = run(place, text, forking)
    assert document["code"] == 0, document["stderr"] + document["tails"]


def test_a_gate_stops_what_depends_on_it(forking: Environment, place: Path) -> None:
    text = (
        HEAD
        + """
data rows { source = file("data/support.jsonl"), holdout { eval = 10% } }
sft { model = tiny, data = rows, full {} }
eval exam from sft { data = rows.eval, gate { loss = at_most(0.001) } }
merge from sft { after = exam }
"""
    )
    document = run(place, text, forking)
    assert document["code"] == 3
    statuses = {stage["stage"]: stage["status"] for stage in document["stages"]}
    assert statuses["exam"] == "refused"
    assert statuses["merge"] == "skipped"
    exam = next(stage for stage in document["stages"] if stage["stage"] == "exam")
    assert "wanted at most 0.001" in exam["message"]


def test_a_loss_that_is_not_a_number_is_a_failure(forking: Environment, place: Path) -> None:
    """The engine itself would log 0.0 and end well."""
    text = (
        HEAD.replace("4 steps", "40 steps")
        + """
sft { model = tiny, data = file("data/alpaca_zh_demo.json"), full {},
  optim { name = sgd, lr = 1e8, weight_decay = 1000, clip = none } }
"""
    )
    document = run(place, text, forking)
    assert document["code"] == 1, document["tails"]
    sft = next(stage for stage in document["stages"] if stage["stage"] == "sft")
    assert "is nan at step" in sft["message"] or "is inf at step" in sft["message"]
    log = (place / document["run"] / "10-sft" / "metrics.jsonl").read_text(encoding="utf-8")
    for line in log.splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_yaml_works_with_the_engines_own_command(engine: Environment, forking: Environment, place: Path) -> None:
    text = HEAD + 'sft { model = tiny, data = file("data/alpaca_zh_demo.json"), full {} }\n'
    document = run(place, text, forking)
    assert document["code"] == 0, document["tails"]
    folder = place / document["run"]
    shutil.rmtree(folder / "10-sft" / "result")
    cli = engine.python.with_name("llamafactory-cli")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [str(cli), "train", "10-sft/train.yaml"], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "10-sft" / "result" / "model.safetensors").exists()


def test_doctor_finds_it_sound(engine: Environment, tmp_path: Path) -> None:
    done = ftc_process("engine", "doctor", "--engine-python", str(engine.python), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "ok       LLaMA-Factory" in done.stdout


LONG = HEAD.replace("4 steps", "1000 steps").replace("every = 1 steps", "every = 5 steps")
TRAIN = """
sft { model = tiny, data = file("data/alpaca_zh_demo.json"), full {}, save { every = 20 steps, keep = 2 }{more} }
"""


def steps_of(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["step"] for event in map(json.loads, lines) if event["event"] == "step"]


def test_an_interrupted_stage_goes_on_from_its_checkpoint(engine: Environment, place: Path) -> None:
    (place / "r.ft").write_text(LONG + TRAIN.replace("{more}", ""), encoding="utf-8")
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain", "--engine-python", str(engine.python)]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stage = place / "runs" / "r" / "last" / "10-sft"
    deadline = time.monotonic() + 120
    while not list(stage.glob("result/checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert steps_of(stage)[-1] < 1000
    (place / "r.ft").write_text(f"# a remark\n{LONG}{TRAIN.replace('{more}', '')}", encoding="utf-8")
    done = ftc_process("run", "r.ft", "--plain", "--engine-python", str(engine.python), cwd=place)
    assert done.returncode == 0, done.stderr[-2000:]
    starts = [event for event in events.read(stage / "metrics.jsonl") if event["event"] == "start"]
    assert len(starts) == 2 and starts[1]["step"] >= 20, "it resumed"
    assert steps_of(stage)[-1] == 1000


def test_a_broken_newest_checkpoint_is_set_aside_and_the_mean_loss_is_of_all_steps(
    forking: Environment, place: Path
) -> None:
    """A run killed while it saved left a checkpoint on which every later one failed; its train_loss was of the rest alone."""
    text = LONG.replace("1000 steps", "200 steps") + TRAIN.replace("{more}", "")
    assert "200 steps" in text
    (place / "r.ft").write_text(text, encoding="utf-8")
    python = ("--no-preload", "--engine-python", str(forking.python))
    command = [sys.executable, "-m", "ftdsl.cli.main", "run", "r.ft", "--plain", *python]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    result = place / "runs" / "r" / "last" / "10-sft" / "result"
    deadline = time.monotonic() + 240
    while len(list(result.glob("checkpoint-*/ftdsl.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    newest = max(result.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    optimizer = newest / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:100])
    done = ftc_process("run", "r.ft", "--json", *python, cwd=place)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{newest.name} is damaged" in done.stderr
    assert (result / f"broken-{newest.name}").is_dir()
    found = events.read(result.parent / "metrics.jsonl")
    starts = [event["step"] for event in found if event["event"] == "start"]
    assert 0 < starts[1] < int(newest.name.split("-")[1])
    losses = {event["step"]: event["loss"] for event in found if event["event"] == "step"}
    steps = [0, *sorted(losses)]
    mean = sum(losses[step] * (step - before) for before, step in pairwise(steps)) / steps[-1]
    (sft,) = (stage for stage in json.loads(done.stdout)["stages"] if stage["stage"] == "sft")
    assert sft["metrics"]["train_loss"] == pytest.approx(mean, rel=0.02)


def test_a_destination_of_another_run_is_set_aside(forking: Environment, place: Path) -> None:
    """The engine would go on from whatever checkpoint lies there, and call it this recipe's result."""
    text = HEAD.replace("4 steps", "20 steps") + TRAIN.replace("{more}", ', to = "out/m", seed = {seed}')
    for seed in (1, 2):
        document = run(place, text.replace("{seed}", str(seed)), forking)
        assert document["code"] == 0, document["tails"]
        assert steps_of(place / document["run"] / "10-sft")[0] == 1
    assert (place / "out" / "m" / "model.safetensors").exists()
    assert (place / "out" / "m.before-1" / "model.safetensors").exists()


def test_parquet_and_csv_reach_the_engine(forking: Environment, place: Path) -> None:
    """One source of each kind, mixed by a data stage, trained on."""
    code = (
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "rows = {'instruction': [f'q{n}' for n in range(8)], 'input': [''] * 8, 'output': [f'a{n}' for n in range(8)]}\n"
        "pq.write_table(pa.table(rows), 'rows.parquet')\n"
    )
    subprocess.run([str(forking.python), "-c", code], cwd=place, check=True)
    lines = "".join(f"x{n},,y{n}\n" for n in range(8))
    (place / "rows.csv").write_text("instruction,input,output\n" + lines, encoding="utf-8")
    text = (
        HEAD
        + """
data rows { source = [file("rows.csv"), file("rows.parquet")] }
sft { model = tiny, data = rows, full {} }
"""
    )
    document = run(place, text, forking)
    assert document["code"] == 0, document["stderr"] + document["tails"]
    rows = (place / document["run"] / "10-rows" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 16
