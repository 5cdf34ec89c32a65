"""What is written for several processes is read by those who will read it: torchrun, accelerate, DeepSpeed, Ray's arguments.

Every strategy under every launcher (tests/engines/layouts.py) and every folder of the golden tree. Each launch.sh runs
with a Python that only writes down what it was asked; the tools' own parsers then read those lines and files, on this CPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.engines.layouts import Layout, compiled, layouts
from tests.targets.test_golden import GOLDEN

pytestmark = pytest.mark.real

RECORDER = """#!{python}
import json, os, sys
if sys.argv[1] == "-c":
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # asks for a free port
names = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "USE_MCA", "USE_RAY")
seen = {{name: os.environ[name] for name in names if name in os.environ}}
with open(os.environ["RECORD"], "a") as handle:
    handle.write(json.dumps({{"argv": sys.argv[1:], "env": seen, "cwd": os.getcwd()}}) + "\\n")
"""


def asked(build: Path, folder: Path, environ: dict[str, str]) -> list[dict[str, Any]]:
    """Every command line of every launch.sh in `build`, as the engine's Python would get it. `folder` is for the recorder."""
    record, python = folder / "record.jsonl", folder / "python"
    python.write_text(RECORDER.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    env = {**os.environ, "FT_PYTHON": str(python), "RECORD": str(record), **environ}
    for script in sorted(build.glob("*/launch.sh")):
        done = subprocess.run(["bash", str(script)], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (script, done.stderr)
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def trains(call: dict[str, Any]) -> bool:
    return "runtime/llamafactory.py" in call["argv"] and "train" in call["argv"]


READ = Path(__file__).with_name("read_layouts.py")


def read(calls: list[dict[str, Any]], forking: Environment, folder: Path) -> list[dict[str, Any]]:
    """What each call's own tool makes of it (read_layouts.py says)."""
    (folder / "calls.json").write_text(json.dumps(calls), encoding="utf-8")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [str(forking.python), str(READ), str(folder / "calls.json"), str(folder / "found.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


def judged(call: dict[str, Any], found: dict[str, Any]) -> None:
    """The tool took all of it, and will start as many processes as the engine is told to expect."""
    argv: list[str] = call["argv"]
    assert found["error"] == "", (argv, found["error"])
    assert found["script"] == "runtime/llamafactory.py"
    spec = json.loads((Path(call["cwd"]) / next(word for word in argv if word.endswith("/stage.json"))).read_bytes())
    planned = spec["world"]
    least = spec.get("at_least", planned)
    assert found["world"] == [least, planned], argv
    assert found["words"] == argv[argv.index("runtime/llamafactory.py") + 1 :], (
        "every word after the script is the script's"
    )


def test_every_layout_is_read_by_its_own_tool(forking: Environment, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []
    for layout in layouts():
        folder = tmp_path / str(layout)
        build = compiled(layout, folder)
        environ = {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1"} if layout.nodes != "one" else {}
        calls += filter(trains, asked(build, folder, environ))
    found = read(calls, forking, tmp_path)
    assert len(found) == len(list(layouts()))
    for call, answer in zip(calls, found, strict=True):
        judged(call, answer)
    starters = {answer["starter"] for answer in found}
    assert starters == {"torchrun", "accelerate", "deepspeed", "ray"}


def test_everything_golden_is_read_by_its_own_tool(forking: Environment, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    calls: list[dict[str, Any]] = []
    for build in sorted(path for path in (tmp_path / "golden").iterdir() if path.is_dir()):
        calls += filter(trains, asked(build, build, {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "SERVE_TOKEN": "x"}))
    found = read(calls, forking, tmp_path)
    for call, answer in zip(calls, found, strict=True):
        if answer["starter"] == "python":
            assert (answer["error"], answer["world"]) == ("", [1, 1]), call["argv"]
        else:
            judged(call, answer)
    files = {Path(answer[kind]).name for answer in found for kind in ("ds_config", "accelerate") if answer.get(kind)}
    assert files == {"ds_config.json", "accelerate.yaml"}
    assert sum(bool(answer.get("ds_config")) for answer in found) == len(list(GOLDEN.glob("*/*/ds_config.json")))


SLIPS = [
    ("zero2", "torchrun", "ds_config.json", '"contiguous_gradients"', '"contiguos_gradients"'),
    ("zero2", "torchrun", "train.yaml", "max_grad_norm: 1", "max_grad_norm: 2"),
    ("fsdp2", "accelerate", "accelerate.yaml", "fsdp_state_dict_type: FULL_STATE_DICT", "fsdp_state_dict_type: FULL"),
    ("fsdp2", "accelerate", "accelerate.yaml", "fsdp_offload_params", "fsdp_ofload_params"),
    ("ddp", "accelerate", "accelerate.yaml", "num_machines", "num_machine"),
    ("ddp", "torchrun", "launch.sh", "--nproc_per_node", "--nproc_per_nod3"),
    ("ddp", "deepspeed", "launch.sh", "--no_local_rank", "--no_local_rang"),
    ("ddp", "ray", "train.yaml", "ray_num_workers: 8", "ray_num_workers: 8\nray_num_worker: 8"),
    ("megatron", "torchrun", "train.yaml", "sequence_parallel", "sequence_paralel"),
]


def test_a_slip_would_be_found(forking: Environment, tmp_path: Path) -> None:
    """The judge can say no: to one wrong word in each kind of file."""
    calls = []
    for at, (strategy, launcher, name, right, wrong) in enumerate(SLIPS):
        build = compiled(Layout(strategy, launcher), tmp_path / str(at))
        path = next(build.glob(f"*/{name}"))
        text = path.read_text(encoding="utf-8")
        assert right in text, (name, right)
        path.write_text(text.replace(right, wrong), encoding="utf-8")
        calls += filter(trains, asked(build, build, {}))
    found = read(calls, forking, tmp_path)
    assert [SLIPS[at] for at, answer in enumerate(found) if not answer["error"]] == []
