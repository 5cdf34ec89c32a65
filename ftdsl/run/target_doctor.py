"""What a target needs: its commands, its controller, partitions, and whether nodes see the folder of the runs and the Python."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ftdsl.run import cluster_doctor
from ftdsl.run.doctor import Check
from ftdsl.run.launchers import slurm_commands
from ftdsl.run.launchers.launcher import LaunchError
from ftdsl.run.launchers.slurm import SlurmLauncher

CLUSTER_CHECKS = {
    "kubernetes": cluster_doctor.kubernetes,
    "skypilot": cluster_doctor.skypilot,
    "ray": cluster_doctor.ray,
}

LOOK = """
folder=$1 python=$2
echo "node $(hostname)"
[ -d "$folder" ] && echo "folder yes" || echo "folder no"
"$python" -c 'import sys; print("python", sys.version.split()[0])' 2>/dev/null || echo "python no"
"""
PATIENCE = 120.0
"""Seconds that a job which looks from a node may wait in the queue."""


def examine(
    target: str, env: Mapping[str, str], folder: Path, python: str, *, on_a_node: bool = False, partition: str = ""
) -> list[Check]:
    """What is there and what is missing. on_a_node: start a job of one minute that looks from a node of a partition."""
    if target == SlurmLauncher.name:
        return _slurm(env, folder, python or "python3", on_a_node=on_a_node, partition=partition)
    look = CLUSTER_CHECKS.get(target)
    return list(look(env)) if look else []


def _slurm(env: Mapping[str, str], folder: Path, python: str, *, on_a_node: bool, partition: str) -> list[Check]:
    path = env.get("PATH")
    names = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
    lacking = [name for name in names if shutil.which(name, path=path) is None]
    login = "run ftc on a login node of the cluster"
    checks = [Check("commands", not lacking, f"no {', '.join(lacking)}" if lacking else ", ".join(names), login, True)]
    if lacking:
        return checks
    try:
        rows = slurm_commands.partitions(env)
    except LaunchError as error:
        return [*checks, Check("controller", False, str(error), "is slurmctld up? scontrol ping", True)]
    checks.append(Check("controller", True, "answers", "", True))
    for name, limit, nodes, cores, gpus in rows:
        what = f"{nodes} nodes of {cores} cores, {'no GPU' if gpus == '(null)' else gpus}, at most {limit}"
        checks.append(Check(f"partition {name}", True, what))
    keeps = slurm_commands.keeps_accounts(env)
    checks.append(
        Check("accounting", keeps, "sacct answers" if keeps else "none: ended jobs are known from their files")
    )
    if on_a_node:
        return [*checks, *_from_a_node(env, folder.resolve(), python, partition)]
    return [
        *checks,
        Check("nodes", False, "not looked from", "add --on-a-node: do nodes see this folder and the Python?"),
    ]


def _from_a_node(env: Mapping[str, str], folder: Path, python: str, partition: str) -> list[Check]:
    options = [f"--partition={partition}"] if partition else []
    command = [
        "srun",
        "--nodes=1",
        "--ntasks=1",
        "--time=1",
        "--chdir=/",
        *options,
        "bash",
        "-c",
        LOOK,
        "look",
        str(folder),
        python,
    ]
    try:
        done = subprocess.run(
            command,
            env=dict(env),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return [Check("nodes", False, f"no job started within {PATIENCE:.0f} s", "", True)]
    seen = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    if "node" not in seen:
        return [Check("nodes", False, (done.stderr.strip().splitlines() or ["srun failed"])[-1], "", True)]
    node, version = seen["node"], seen.get("python", "no")
    sees = seen.get("folder") == "yes"
    share = "it must lie on a disk that all nodes share"
    return [
        Check("nodes", True, f"a job ran on {node}", "", True),
        Check("folder", sees, f"{node} {'sees' if sees else 'does not see'} {folder}", share, True),
        Check(
            "python", version != "no", f"{version} on {node}" if version != "no" else f"{node} has no {python}",
            "build the environment on a shared disk, and name it: --engine-python PATH", True,
        ),
    ]  # fmt: skip
