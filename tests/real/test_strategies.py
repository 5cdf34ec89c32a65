"""One recipe under every strategy that runs on a CPU: started by its own launcher, the curves and the weights are the same.

This is also the guard against a ZeRO-3 that corrupts weights in silence, as an older DeepSpeed did (docs/parallelism.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT, ftc_process
from tests.real.conftest import launching

pytestmark = pytest.mark.real

HEAD = """
hardware {{ gpu = none, count = 2 }}
template  = qwen3_nothink
max_len   = 128
precision = fp32
duration  = 6 steps
batch     {{ global = 8, micro = 2 }}
track     {{ every = 1 steps }}
save      {{ every = never }}
let tiny  = {model}
"""
TINY = "scratch(architecture = qwen3, hidden = 32, layers = 2, heads = 2, vocab = 600)"
STAGE = (
    'sft {name} {{ model = tiny, data = file("data/alpaca_zh_demo.json"), full {{}}, optim {{ lr = 1e-3 }}, {more} }}\n'
)
STAGES = {
    "one": "hardware.count = 1",
    "half": "hardware.count = 1, precision = bf16",
    "ddp": "launch.with = torchrun",
    "ddp_deepspeed": "launch.with = deepspeed",
    "ddp_accelerate": "launch.with = accelerate",
    "zero1": "launch.with = torchrun, parallel.strategy = zero1",
    "zero2": "launch.with = accelerate, parallel.strategy = zero2",
    "zero3": "launch.with = deepspeed, parallel.strategy = zero3",
    "zero3_offload": "launch.with = torchrun, parallel { strategy = zero3, offload = [optimizer, params] }",
    "tensor2": "parallel { strategy = zero1, tensor = 2 }",
    "tensor2_data2": "hardware.count = 4, parallel { strategy = zero1, tensor = 2 }",
}
RANKS = {"one": 1, "half": 1, "tensor2_data2": 4}

SAME = 1e-5
"""Relative, for losses and gradient norms of each step, absolute for weights (the largest is 1). Seen: 2e-7, 8e-7, 7e-7."""


@dataclass
class Trained:
    """Stages that ran: folder by name, and step by step [loss, gradient norm]."""

    place: Path
    folders: dict[str, Path] = field(default_factory=dict)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    worlds: dict[str, int] = field(default_factory=dict)

    def read(self, name: str, folder: Path) -> None:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        self.folders[name] = folder
        self.curves[name] = [[one["loss"], one["grad_norm"]] for one in events if one["event"] == "step"]
        (self.worlds[name],) = [one["world_size"] for one in events if one["event"] == "start"]


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """Somebody listens there."""
    try:
        server = socket.create_server(("", port))
    except OSError:  # somebody does
        yield
        return
    with server:
        yield


@pytest.fixture(scope="module")
def trained(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    place = tmp_path_factory.mktemp("strategies")
    shutil.copytree(ROOT / "examples" / "data", place / "data")
    text = HEAD.format(model=TINY) + "".join(STAGE.format(name=name, more=more) for name, more in STAGES.items())
    (place / "r.ft").write_text(text, encoding="utf-8")
    with taken(29500):  # where torch and DeepSpeed meet if nobody says otherwise: another run's, say
        done = ftc_process(
            "run", "r.ft", "--plain", "--no-preload", "--engine-python", str(launching(forking).python), cwd=place
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    found = Trained(place)
    for name in STAGES:
        found.read(name, next((place / "runs/r/last").glob(f"*-{name}")))
    return found


@pytest.mark.parametrize("name", [name for name in STAGES if name != "half"])
def test_the_curve_is_that_of_one_process(name: str, trained: Trained) -> None:
    assert trained.worlds[name] == RANKS.get(name, 2)
    assert len(trained.curves[name]) == 6
    for step, alone in zip(trained.curves[name], trained.curves["one"], strict=True):
        assert step == pytest.approx(alone, rel=SAME)


WEIGHTS = """
import json, sys
from safetensors.torch import load_file
first, *others = [load_file(path) for path in sys.argv[1:]]
print(json.dumps([[sorted(one) == sorted(first), max(float((one[k] - first[k]).abs().max()) for k in first)] for one in others]))
"""


def apart(forking: Environment, *folders: Path) -> list[list[float]]:
    """Of each model but the first: has it the same tensors, and the largest difference of a weight."""
    models = [str(folder / "result" / "model.safetensors") for folder in folders]
    done = subprocess.run([str(forking.python), "-c", WEIGHTS, *models], capture_output=True, text=True, check=True)
    found: list[list[float]] = json.loads(done.stdout)
    return found


def test_the_weights_are_those_of_one_process(forking: Environment, trained: Trained) -> None:
    names = [name for name in STAGES if name != "half"]
    found = apart(forking, *(trained.folders[name] for name in names))
    assert {name: most for name, (same, most) in zip(names[1:], found, strict=True) if not same or most > SAME} == {}


def test_half_precision_is_no_word_only(trained: Trained) -> None:
    """bf16 on a CPU is real: near the curve of fp32, and not on it."""
    losses = [[loss for loss, _ in trained.curves[name]] for name in ("one", "half")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert losses[1] != pytest.approx(losses[0], rel=SAME)


def own(trained: Trained, name: str, text: str) -> Path:
    """A build folder of a recipe beside the others, which starts from the same model."""
    (scratch,) = (trained.place / "runs/r/last").glob("*-scratch")
    model = f'file("{scratch}/result")'
    (trained.place / f"{name}.ft").write_text(HEAD.format(model=model) + text, encoding="utf-8")
    done = ftc_process("compile", f"{name}.ft", cwd=trained.place)
    assert done.returncode == 0, done.stderr
    return trained.place / "build" / name


def test_fsdp2_shards_and_trains_the_same(forking: Environment, trained: Trained) -> None:
    """The recipe is for cards; `use_cpu` and the shim stand in for them. What it compiles to is otherwise left as it is."""
    shutil.copy(Path(__file__).with_name("shims.py"), trained.place)
    more = """hardware { gpu = a100(80GB), count = 2 }, parallel.strategy = fsdp2, attention = auto
      save { every = 6 steps }, callbacks = ["shims:Sharded"],
      accelerate { fsdp_config { fsdp_state_dict_type = SHARDED_STATE_DICT, fsdp_cpu_ram_efficient_loading = false } }"""
    build = own(trained, "fsdp2", STAGE.format(name="fsdp2", more=more))
    with (build / "10-fsdp2" / "train.yaml").open("a", encoding="utf-8") as config:
        config.write("use_cpu: true\n")
    env = {**os.environ, "FT_PYTHON": str(launching(forking).python), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", str(build / "run.sh"), "sharded"], cwd=trained.place, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ranks = [json.loads((trained.place / "sharded" / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0]["all"] == ranks[1]["all"] == 71_392
    assert ranks[0]["own"] + ranks[1]["own"] == 71_392
    trained.read("fsdp2", trained.place / "sharded" / "10-fsdp2")
    for step, plain in zip(trained.curves["fsdp2"], trained.curves["ddp"], strict=True):
        assert step == pytest.approx(plain, rel=SAME)
    ((same, most),) = apart(forking, trained.folders["ddp"], trained.folders["fsdp2"])
    assert (same, most < SAME) == (True, True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("more", ["", "launch.retries = 1"], ids=["static", "rendezvous"])
def test_two_hosts(more: str, forking: Environment, trained: Trained) -> None:
    """Two nodes of one process, started as the header of run.sh says; both are this machine."""
    name = f"hosts{len(more)}"
    build = own(trained, name, STAGE.format(name="sft", more=f"hardware {{ count = 1, nodes = 2 }}, {more}"))
    text = (build / "run.sh").read_text(encoding="utf-8")
    assert "NODE_RANK=1 MASTER_ADDR=ADDRESS_OF_THE_FIRST bash run.sh RUN_FOLDER" in text
    env = {**os.environ, "FT_PYTHON": str(launching(forking).python), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
           "MASTER_PORT": str(free_port())}  # fmt: skip
    command = ["bash", str(build / "run.sh"), f"{name}-run"]
    nodes = [
        subprocess.Popen(command, cwd=trained.place, env={**env, "NODE_RANK": str(rank)}, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for rank in (1, 0)
    ]  # fmt: skip
    message = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(text[-2000:] for text in message)
    trained.read(name, trained.place / f"{name}-run" / "10-sft")
    assert trained.worlds[name] == 2
    for step, plain in zip(trained.curves[name], trained.curves["ddp"], strict=True):
        assert step == pytest.approx(plain, rel=SAME)
