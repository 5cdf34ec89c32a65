"""Files for other clusters, read by the tools that they are for; and a Ray job, executed on a Ray of its own.

`make test-clusters` installs the tools, each in an environment of its own below .clusters/.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.slurm import lonely_network
from tests.conftest import ROOT
from tests.targets.test_clusters import TARGETS, files_of

pytestmark = pytest.mark.cluster

READ = ROOT / "tests" / "clusters" / "read_with_tool.py"


def tool(name: str) -> Path:
    """The Python of a tool."""
    python = ROOT / ".clusters" / name / "bin" / "python"
    if not python.exists():
        pytest.fail(f"no {name} here: make test-clusters installs it")
    return python


def written(place: Path, target: str) -> dict[str, Path]:
    """The files of a build, on disk."""
    paths = {}
    for name, text in files_of(place, TARGETS[target]).items():
        paths[name] = place / "build" / name
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_text(text, encoding="utf-8")
    return paths


def read(name: str, files: list[Path], folder: Path) -> list[object]:
    env = {**os.environ, "HOME": str(folder / "home"), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run(
        [tool(name), str(READ), name, *map(str, files)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("target", "kind"), [("kubernetes", "Job"), ("jobset", "JobSet"), ("trainjob", "TrainJob")])
def test_kubernetes_schemas_take_every_file(target: str, kind: str, tmp_path: Path) -> None:
    files = [
        path for name, path in written(tmp_path, target).items() if name.endswith(".yaml") and "kubernetes/" in name
    ]
    kinds = read("kubernetes", files, tmp_path)
    assert kinds.count(kind) == 7
    assert kinds.count("Pod") == 1


def test_a_wrong_field_is_seen(tmp_path: Path) -> None:
    """The models drop what they do not know; the test must not."""
    paths = written(tmp_path, "jobset")
    path = next(path for name, path in paths.items() if "kubernetes/10-rows" in name)
    path.write_text(path.read_text(encoding="utf-8").replace("maxRestarts", "maxRestart"), encoding="utf-8")
    done = subprocess.run(
        [tool("kubernetes"), str(READ), "kubernetes", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "maxRestart" in done.stderr


def test_skypilot_takes_the_pipeline(tmp_path: Path) -> None:
    paths = written(tmp_path, "skypilot")
    tasks = read("skypilot", [paths["skypilot.yaml"]], tmp_path / "build")
    assert len(tasks) == 7
    assert [task["gpus"] for task in tasks if task["name"].startswith("20-sft")] == [[{"H100": 8}]]  # type: ignore[index]
    assert [task["nodes"] for task in tasks][:2] == [1, 2]  # type: ignore[index]


@pytest.fixture
def ray_cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Ray of one node in a network namespace of its own, where the addresses that it finds are its own."""
    python = tool("ray")
    with lonely_network() as namespace:
        command = [str(python.with_name("ray")), "start", "--head", "--num-cpus=2", "--num-gpus=0", "--block",
                   "--disable-usage-stats", "--dashboard-host=127.0.0.1", "--dashboard-port=8265", f"--temp-dir={tmp_path}/ray",
                   "--object-store-memory=100000000"]  # fmt: skip
        with (tmp_path / "ray.log").open("wb") as log:
            env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0",
                   "RAY_raylet_start_wait_time_s": "300", "RAY_NODE_STARTUP_TIMEOUT_S": "300"}  # fmt: skip
            mortal = [
                "setpriv",
                "--pdeathsig",
                "KILL",
                *namespace,
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ]
            process = subprocess.Popen([*mortal, *command], env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for_dashboard(namespace, process, tmp_path / "ray.log")
            yield {"RAY_ADDRESS": "http://127.0.0.1:8265", "PATH": f"{python.parent}:{os.environ['PATH']}",
                   "NAMESPACE": json.dumps(namespace)}  # fmt: skip
        finally:
            os.killpg(process.pid, 9)
            process.wait(20)


def _wait_for_dashboard(namespace: list[str], process: subprocess.Popen[bytes], log: Path) -> None:
    """Raises: AssertionError with what Ray printed, where it ends, or has no dashboard within the time of a busy machine."""
    ask = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8265/api/version', timeout=10)"
    end = time.monotonic() + 600
    while subprocess.run([*namespace, sys.executable, "-c", ask], capture_output=True, check=False).returncode:
        assert process.poll() is None and time.monotonic() < end, log.read_text(encoding="utf-8", errors="replace")[
            -3000:
        ]
        time.sleep(2)


def test_a_ray_job(ray_cluster: dict[str, str], tmp_path: Path) -> None:
    """Stages in order, on a real Ray: what they make, and where one that fails leaves it."""
    from ftdsl.cli.main import main

    recipe = f"""
    target = ray(storage = "{tmp_path}/shared", python = "{sys.executable}")
    shell first {{ run = "echo one > {{first.path}}" }}
    shell second {{ after = first, run = "cat {{first.path}} {{first.path}} > {{second.path}}" }}
    """
    (tmp_path / "r.ft").write_text(recipe, encoding="utf-8")
    assert main(["compile", str(tmp_path / "r.ft"), "-o", str(tmp_path / "build")]) == 0
    namespace = json.loads(ray_cluster["NAMESPACE"])
    env = {**os.environ, "RAY_ADDRESS": ray_cluster["RAY_ADDRESS"], "PATH": ray_cluster["PATH"]}
    done = subprocess.run(
        [*namespace, "bash", str(tmp_path / "build" / "submit.sh")],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    run = tmp_path / "shared" / "r"
    assert (run / "20-second").is_dir()
    assert (run / "20-second" / "done").exists()
