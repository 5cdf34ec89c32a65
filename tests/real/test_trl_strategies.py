"""TRL under every strategy that runs on processes of a CPU: losses and weights are those of one process, and what is saved has
the logits of the model that was trained.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ftc_process
from tests.real.conftest import launching
from tests.real.trained import events_of, write_rows

pytestmark = pytest.mark.real

HEAD = """
engine = trl
template = qwen3_nothink
max_len = 32
precision = fp32
duration = 4 steps
batch { global = 8, micro = 2 }
track { every = 1 steps }
optim { lr = 1e-3 }
data = file("rows.jsonl")
callbacks = ["shims:Logits"]
save { every = never }
"""
TINY = "scratch(architecture = qwen3, hidden = 32, layers = 2, heads = 2, vocab = 400)"
STAGE = "sft {name} {{ model = tiny, hardware {{ gpu = none, count = {ranks} }}, {method}, {more} }}\n"
LORA = "lora { rank = 4 }"
STRATEGIES = {
    "ddp": "launch.with = torchrun",
    "zero1": "launch.with = torchrun, parallel.strategy = zero1",
    "zero2": "launch.with = accelerate, parallel.strategy = zero2",
    "zero3": "launch.with = deepspeed, parallel.strategy = zero3",
}
STAGES = {
    "one": ("full {}", 1, ""),
    **{name: ("full {}", 2, more) for name, more in STRATEGIES.items()},
    "one_lora": (LORA, 1, ""),
    "zero1_lora": (LORA, 2, STRATEGIES["zero1"]),
}
SAME = 1e-5
"""Relative, for losses and gradient norms of each step; absolute for logits. Seen: at most 8e-8, 1.3e-7 and 1e-6."""

RELOADED = """
import json, sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM
from peft import PeftModel
base, *folders = sys.argv[1:]
found = {}
for folder in folders:
    result = Path(folder, "result")
    if (result / "adapter_config.json").exists():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), result)
    else:
        model = AutoModelForCausalLM.from_pretrained(result)
    trained = torch.load(Path(folder, "logits.pt"))
    with torch.no_grad():
        again = model.eval()(input_ids=trained["ids"]).logits
    found[folder] = [float((again - trained["logits"]).abs().max()), float(again.std())]
print(json.dumps(found))
"""


def curve(folder: Path) -> list[list[float]]:
    """[loss, gradient norm] of each step."""
    return [[event["loss"], event["grad_norm"]] for event in events_of(folder) if event["event"] == "step"]


def world(folder: Path) -> int:
    (size,) = [event["world_size"] for event in events_of(folder) if event["event"] == "start"]
    return int(size)


def reloaded(forking_trl: Environment, base: Path, *folders: Path) -> dict[str, list[float]]:
    """By folder: the largest difference between the logits of the trained model and of what was saved, and their spread."""
    argv = [str(forking_trl.python), "-c", RELOADED, str(base), *map(str, folders)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return {Path(folder).name.partition("-")[2]: values for folder, values in found.items()}


class Ran:
    """A run of `STAGES`."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def folder(self, name: str) -> Path:
        (folder,) = self.place.glob(f"runs/r/last/*-{name}")
        return folder

    @property
    def base(self) -> Path:
        return self.folder("scratch") / "result"


@pytest.fixture(scope="module")
def ran(forking_trl: Environment, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    place = tmp_path_factory.mktemp("strategies")
    write_rows(place)
    shutil.copy(Path(__file__).with_name("shims.py"), place)
    stages = (
        STAGE.format(name=name, method=method, ranks=ranks, more=more) for name, (method, ranks, more) in STAGES.items()
    )
    (place / "r.ft").write_text(f"{HEAD}let tiny = {TINY}\n" + "".join(stages), encoding="utf-8")
    done = ftc_process(
        "run", "r.ft", "--plain", "--no-preload", "--engine-python", str(launching(forking_trl).python), cwd=place
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return Ran(place)


@pytest.mark.parametrize("name", STAGES)
def test_the_curve_is_that_of_one_process(name: str, ran: Ran) -> None:
    folder = ran.folder(name)
    assert world(folder) == STAGES[name][1]
    alone = curve(ran.folder("one_lora" if STAGES[name][0] == LORA else "one"))
    assert len(alone) == 4 and alone[0][0] != alone[-1][0]
    for step, expected in zip(curve(folder), alone, strict=True):
        assert step == pytest.approx(expected, rel=SAME)


def test_what_is_saved_has_the_logits_of_what_was_trained(ran: Ran, forking_trl: Environment) -> None:
    found = reloaded(forking_trl, ran.base, *(ran.folder(name) for name in STAGES))
    assert len(found) == len(STAGES)
    for name, (apart, spread) in found.items():
        assert spread > 0.01, name
        assert apart < SAME, name


def compiled(ran: Ran, name: str, text: str) -> Path:
    """A build folder of a recipe that starts from the same model."""
    (ran.place / f"{name}.ft").write_text(f'{HEAD}let tiny = file("{ran.base}")\n{text}', encoding="utf-8")
    done = ftc_process("compile", f"{name}.ft", cwd=ran.place)
    assert done.returncode == 0, done.stderr
    return ran.place / "build" / name


def without_cards(ran: Ran, build: Path, forking_trl: Environment) -> Path:
    """Run what was compiled for GPUs; `use_cpu` and a callback of the tests replace them. Gives the run folder."""
    for config in build.glob("*/train.yaml"):
        text = config.read_text(encoding="utf-8").replace("use_liger_kernel: true\n", "")
        config.write_text(f"{text}use_cpu: true\n", encoding="utf-8")
    env = {**os.environ, "FT_PYTHON": str(launching(forking_trl).python), "OMP_NUM_THREADS": "1"}
    folder = f"{build.name}-run"
    argv = ["bash", str(build / "run.sh"), folder]
    done = subprocess.run(argv, cwd=ran.place, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return ran.place / folder


def held(folder: Path, ranks: int) -> list[dict[str, Any]]:
    """Parameters that each rank held."""
    return [json.loads((folder / f"rank-{rank}.json").read_text(encoding="utf-8")) for rank in range(ranks)]


def test_fsdp2_shards_and_trains_the_same(ran: Ran, forking_trl: Environment) -> None:
    more = """hardware { gpu = a100(80GB), count = 2 }, parallel.strategy = fsdp2, attention = sdpa,
      callbacks = ["shims:Sharded", "shims:Logits"]"""
    text = f"sft fsdp2 {{ model = tiny, full {{}}, {more} }}\n"
    folder = without_cards(ran, compiled(ran, "fsdp2", text), forking_trl)
    first, second = held(folder, 2)
    assert first["all"] == second["all"] == first["own"] + second["own"]
    (stage,) = folder.glob("*-fsdp2")
    for step, expected in zip(curve(stage), curve(ran.folder("one")), strict=True):
        assert step == pytest.approx(expected, rel=SAME)
    ((apart, _),) = reloaded(forking_trl, ran.base, stage).values()
    assert apart < SAME


def test_split_tensors_times_fsdp2(ran: Ran, forking_trl: Environment) -> None:
    """Four ranks, by transformers' own DistributedConfig: tensors over two, the rest of the sharding over two."""
    more = """hardware { gpu = a100(80GB), count = 4 }, parallel { strategy = fsdp2, tensor = 2 }, attention = sdpa,
      save { every = 2 steps }, batch { global = 8, micro = 4 }, callbacks = ["shims:Split", "shims:Logits"]"""
    text = f"sft split {{ model = tiny, full {{}}, {more} }}\n"
    folder = without_cards(ran, compiled(ran, "split", text), forking_trl)
    (stage,) = folder.glob("*-split")
    assert world(stage) == 4
    for step, expected in zip(curve(stage), curve(ran.folder("one")), strict=True):
        assert step == pytest.approx(expected, rel=SAME)
    ranks = held(folder, 4)
    assert all(rank["own"] < 0.3 * rank["all"] for rank in ranks), "weights are split over all four"
    ((apart, _),) = reloaded(forking_trl, ran.base, stage).values()
    assert apart < SAME
