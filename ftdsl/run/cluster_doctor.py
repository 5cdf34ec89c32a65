"""What Kubernetes, Ray and SkyPilot need where jobs are submitted: their command, a cluster that answers, rights, GPUs. Starts
nothing.

Sources: kubernetes.io/docs (kubectl, API groups), docs.ray.io (dashboard's HTTP API), docs.skypilot.co (`sky check`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl.run.doctor import Check

PATIENCE = 15.0
"""Seconds that a cluster may take to answer; `sky check` asks every cloud, and has `CLOUDS_PATIENCE`."""
CLOUDS_PATIENCE = 120.0
RAY_ADDRESS = "http://127.0.0.1:8265"
GPUS = "nvidia.com/gpu"
GROUPS = {"jobset.x-k8s.io": ("kind = jobset", "JobSet"), "trainer.kubeflow.org": ("kind = trainjob", "Kubeflow Trainer"),
          "kueue.x-k8s.io": ("queue", "Kueue")}  # fmt: skip
"""API groups of Kubernetes: the option that needs each, and what installs it."""


def kubernetes(env: Mapping[str, str]) -> Iterator[Check]:
    """kubectl, its context, the cluster, what this user may do, GPUs, and the kinds that options ask for."""
    where = shutil.which("kubectl", path=env.get("PATH"))
    yield _command("kubectl", where, "install it where jobs are submitted: kubernetes.io/docs/tasks/tools")
    if where is None:
        return
    context = _run(["kubectl", "config", "current-context"], env)
    help = "kubectl config use-context NAME, or KUBECONFIG"
    yield Check("context", context.returncode == 0, context.stdout.strip() or _last(context), help, True)
    if context.returncode:
        return
    version = _raw("/version", env)
    if version is None:
        yield Check("cluster", False, "does not answer", "kubectl cluster-info says why", True)
        return
    yield Check("cluster", True, f"answers, Kubernetes {version.get('gitVersion', '?')}", "", True)
    for verb, resource, use in (
        ("create", "jobs.batch", "a stage is a job"),
        ("create", "pods/exec", "the build is copied"),
    ):
        answer = _run(["kubectl", "auth", "can-i", verb, resource], env).stdout.strip()
        text = f"{'may' if answer == 'yes' else 'may not'} {verb} {resource} ({use})"
        yield Check(
            "rights", answer == "yes", text, "ask an administrator for a role, or name another `namespace`", True
        )
    nodes = _raw("/api/v1/nodes", env)
    yield _gpus(nodes) if nodes is not None else Check("gpus", False, "this user may not list nodes")
    groups = {str(group.get("name")) for group in (_raw("/apis", env) or {}).get("groups", [])}
    for group, (option, title) in GROUPS.items():
        yield Check(
            title, group in groups, "is there" if group in groups else "not installed", f"only `{option}` needs it"
        )


def _gpus(nodes: Mapping[str, Any]) -> Check:
    counts = [int(node.get("status", {}).get("allocatable", {}).get(GPUS, 0)) for node in nodes.get("items", [])]
    total, holders = sum(counts), sum(1 for count in counts if count)
    text = f"{total} of {GPUS} on {holders} of {len(counts)} nodes"
    return Check("gpus", total > 0, text, "is the device plugin installed? another resource is `gpus = …`")


def ray(env: Mapping[str, str]) -> Iterator[Check]:
    """The command, the dashboard at RAY_ADDRESS, its version, and what its nodes have."""
    where = shutil.which("ray", path=env.get("PATH"))
    yield _command("ray", where, "pip install 'ray[default]' where jobs are submitted")
    address = env.get("RAY_ADDRESS") or RAY_ADDRESS
    if not address.startswith(("http://", "https://")):
        help = "RAY_ADDRESS=http://HEAD:8265 is the dashboard's, which takes jobs"
        yield Check("address", False, f"{address} is not the address of a dashboard", help, True)
        return
    version_info = _get(f"{address.rstrip('/')}/api/version")
    if version_info is None:
        help = "ray start --head; RAY_ADDRESS, or `ray(address = …)`, names its dashboard"
        yield Check("cluster", False, f"nothing answers at {address}", help, True)
        return
    version = str(version_info.get("ray_version", "?"))
    yield Check("cluster", True, f"Ray {version} answers at {address}", "", True)
    if where is not None:
        mine = _run(["ray", "--version"], env).stdout.strip().rpartition(" ")[2]
        text = f"the command is {mine}" + ("" if mine == version else f", the cluster {version}")
        yield Check("version", mine == version, text, f"pip install 'ray[default]=={version}'")
    nodes = (_get(f"{address.rstrip('/')}/nodes?view=summary") or {}).get("data", {}).get("summary", [])
    alive = [node for node in nodes if node.get("raylet", {}).get("state") == "ALIVE"]
    have: dict[str, float] = {}
    for node in alive:
        for name, count in node["raylet"].get("resourcesTotal", {}).items():
            have[name] = have.get(name, 0) + float(count)
    text = f"{len(alive)} alive, {have.get('CPU', 0):g} cores, {have.get('GPU', 0):g} GPUs"
    yield Check("nodes", bool(alive), text, "ray start --address HEAD:6379 adds one", True)


def skypilot(env: Mapping[str, str]) -> Iterator[Check]:
    """The command, its API server, and the clouds that it may use. No server is started to find out."""
    where = shutil.which("sky", path=env.get("PATH"))
    yield _command("sky", where, "pip install 'skypilot[aws]' (or another cloud) where jobs are submitted")
    if where is None:
        return
    server = _run(["sky", "api", "info"], env, PATIENCE * 4)
    printed = _plain(server.stdout + server.stderr)
    connected = server.returncode == 0 and "No SkyPilot API server" not in printed
    lines = [line.strip() for line in printed.splitlines() if "server" in line]
    line = next((line for line in lines if line.startswith("No ")), lines[0] if lines else "does not answer")
    yield Check("API server", connected, line, "sky api start, or sky api login", True)
    if not connected:
        return
    clouds = _clouds(_run(["sky", "check", "-o", "json"], env, CLOUDS_PATIENCE).stdout)
    yield Check("clouds", bool(clouds), ", ".join(clouds) or "none is enabled", "sky check says what each lacks", True)


def _clouds(text: str) -> list[str]:
    """The clouds in what `sky check -o json` prints: by workspace, else a list."""
    try:
        answer = json.loads(text[text.index("{") if "{" in text else text.index("[") :])
    except ValueError:
        return []
    lists = answer.values() if isinstance(answer, dict) else [answer]
    return sorted({str(name) for names in lists if isinstance(names, list) for name in names if isinstance(name, str)})


def _command(name: str, where: str | None, help: str) -> Check:
    return Check(name, where is not None, where or "not here", help, True)


def _raw(path: str, env: Mapping[str, str]) -> dict[str, Any] | None:
    """What the API server answers; None where it does not, or this user may not ask."""
    done = _run(["kubectl", "get", "--raw", path, f"--request-timeout={PATIENCE:.0f}s"], env, PATIENCE * 2)
    try:
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _get(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            content = json.loads(response.read(1 << 22))
    except (OSError, ValueError, urllib.error.URLError):
        return None
    return content if isinstance(content, dict) else None


def _run(command: list[str], env: Mapping[str, str], patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """A command without input; one that cannot start, or takes too long, has failed with that as its text."""
    try:
        return subprocess.run(
            command, env=dict(env), capture_output=True, encoding="utf-8", timeout=patience, check=False, errors="replace",
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        why = f"no answer within {patience:.0f} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        return subprocess.CompletedProcess(command, 1, "", why)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return (_plain(done.stderr).strip().splitlines() or ["no answer"])[-1]


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
