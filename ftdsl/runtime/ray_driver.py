"""`ray_driver.py STAGES.json`: runs the stages of a build on a Ray cluster, one after the other, as the driver of a Ray job.

The build is the job's working directory, of which every node has a copy; the run folder is shared. Each node's part of a stage is
a task of its own in a placement group, which holds that node's cores and GPUs. Needs `ray`; otherwise standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

PORT = 29500
SAVING = 300
"""Seconds between the end of a stage's time and its being killed."""


def laid_out(build: Path, run: Path, stage: str) -> None:
    """A stage's files in the run folder, with what all stages share."""
    for name in ("inputs", "runtime"):
        if (build / name).exists():
            shutil.copytree(build / name, run / name, dirs_exist_ok=True)
    shutil.copytree(build / stage, run / stage, dirs_exist_ok=True)


def differing(build: Path, run: Path, stage: str) -> str:
    """A file of a stage by which another build made it, "" if there is none; comments and places in the recipe do not count."""

    def plain(path: Path) -> str:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return re.sub(r'(?m)^#.*|"where": "[^"]*",*', "", text)

    files = sorted(path for path in (build / stage).iterdir() if path.is_file())
    return next((path.name for path in files if plain(path) != plain(run / stage / path.name)), "")


def part(run: str, stage: str, rank: int, nodes: int, head: str, seconds: float | None) -> int:
    """One node's part of a stage: the exit status of its launch.sh."""
    folder = Path(run) / stage
    env = {**os.environ, "NODE_RANK": str(rank), "MASTER_ADDR": head, "MASTER_PORT": str(PORT), "PYTHONUNBUFFERED": "1"}
    log = folder / ("log.txt" if rank == 0 else f"log.node-{rank}.txt")
    with log.open("ab") as output:
        try:
            work = subprocess.Popen(
                ["bash", f"{stage}/launch.sh"],
                cwd=run,
                env=env,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that its ranks end with it
            )
        except FileNotFoundError:
            print(f"error: {socket.gethostname()} does not see {run}", file=sys.stderr)
            return 96
        try:
            return work.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"error: {stage} reached its time limit of {seconds} s", file=sys.stderr)
            return 124
        finally:
            ended(work)


def ended(work: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started; a training that is asked to end may save."""
    for number, seconds in ((signal.SIGTERM, SAVING), (signal.SIGKILL, None)):
        if work.poll() is None:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(work.pid, number)
                work.wait(seconds)
    with contextlib.suppress(ProcessLookupError):  # ranks that outlive their launcher
        os.killpg(work.pid, signal.SIGKILL)


def carried_out(stage: dict[str, Any], run: Path) -> int:
    """All parts of a stage on nodes that differ; the first exit status that is not 0. Raises: ray.exceptions.RayError."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    nodes = stage["nodes"]
    bundle = {"CPU": stage["cpus"], **({"GPU": stage["gpus"]} if stage["gpus"] else {})}
    group = placement_group([bundle] * nodes, strategy="STRICT_SPREAD" if nodes > 1 else "PACK")
    ray.get(group.ready())

    def on(rank: int) -> dict[str, Any]:
        strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=rank)
        return {
            "num_cpus": stage["cpus"], "num_gpus": stage["gpus"], "max_retries": 0, "scheduling_strategy": strategy,
            "runtime_env": {"env_vars": {name: os.environ[name] for name in stage["secrets"] if name in os.environ}},
        }  # fmt: skip

    try:
        head = ray.get(ray.remote(ray.util.get_node_ip_address).options(**on(0)).remote()) if nodes > 1 else "127.0.0.1"
        work = ray.remote(part)
        parts = [
            work.options(**on(rank)).remote(str(run), stage["folder"], rank, nodes, head, stage["seconds"])
            for rank in range(nodes)
        ]
        return next((status for status in ray.get(parts) if status), 0)
    finally:
        remove_placement_group(group)


def main(argv: list[str]) -> int:
    """0 when all stages are done, else the exit status of the one that is not."""
    import ray

    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    build, run = Path.cwd(), Path(spec["run"])
    ray.init()
    for stage in spec["stages"]:
        name = stage["folder"]
        if (run / name / "done").exists():
            if file := differing(build, run, name):
                print(f"== {name}: was done by another build ({file} differs): remove {run / name}", flush=True)
                return 1
            print(f"== {name}: done before", flush=True)
            continue
        print(f"== {name}", flush=True)
        laid_out(build, run, name)
        status = carried_out(stage, run)
        if status:
            print(f"== {name}: failed with status {status}; its log is {run / name / 'log.txt'}", flush=True)
            return status
        (run / name / "done").touch()
    print(f"== all stages are done: {run}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
