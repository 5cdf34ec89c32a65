"""`ftc doctor --target …` with the real commands: kubectl against something that answers as an API server does, Ray, SkyPilot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.clusters.test_tools import ray_cluster, tool
from tests.conftest import ftc_process

__all__ = ["ray_cluster"]
pytestmark = pytest.mark.cluster

NODES = {
    "items": [
        {"status": {"allocatable": {"cpu": "8", "nvidia.com/gpu": "8"}}},
        {"status": {"allocatable": {"cpu": "4"}}},
    ]
}
ANSWERS = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
    "/api/v1/nodes": NODES,
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
        {"name": name, "versions": [{"groupVersion": f"{name}/v1", "version": "v1"}],
         "preferredVersion": {"groupVersion": f"{name}/v1", "version": "v1"}}
        for name in ("batch", "jobset.x-k8s.io", "authorization.k8s.io")
    ]},
    "/apis/batch/v1": {"kind": "APIResourceList", "groupVersion": "batch/v1", "resources": [
        {"name": "jobs", "singularName": "job", "namespaced": True, "kind": "Job", "verbs": ["create"]}
    ]},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["create"]},
        {"name": "pods/exec", "singularName": "", "namespaced": True, "kind": "PodExecOptions", "verbs": ["create"]},
    ]},
}  # fmt: skip


class _ApiServer(BaseHTTPRequestHandler):
    """The few answers that the doctor asks for: jobs may be created, and nothing may be executed in pods."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self._answer(200 if path in ANSWERS else 404, ANSWERS.get(path, {"kind": "Status", "status": "Failure"}))

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))  # JSON or protobuf, by the version of kubectl
        review = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {}}
        self._answer(201, {**review, "status": {"allowed": b"jobs" in asked}})

    def _answer(self, status: int, content: object) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def api_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ApiServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture
def kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.fail("no kubectl here: make tools installs it (kubernetes-client)")


def _config(folder: Path, server: str) -> dict[str, str]:
    """The environment in which kubectl talks to this server."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "mine",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "mine", "context": {"cluster": "here", "user": "me"}}],
    }  # fmt: skip
    (folder / "config").write_text(json.dumps(config), encoding="utf-8")
    return {"KUBECONFIG": str(folder / "config"), "HOME": str(folder)}


def test_kubernetes(kubectl: None, api_server: str, tmp_path: Path) -> None:
    done = ftc_process("doctor", "--target", "kubernetes", cwd=tmp_path, **_config(tmp_path, api_server))
    for line in (
        "ok       context: mine",
        "ok       cluster: answers, Kubernetes v1.37.0",
        "ok       rights: may create jobs.batch",
        "MISSING  rights: may not create pods/exec",
        "ok       gpus: 8 of nvidia.com/gpu on 1 of 2 nodes",
        "ok       JobSet: is there",
        "absent   Kubeflow Trainer: not installed",
        "absent   Kueue: not installed",
    ):
        assert line in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1, "a right is missing"


@pytest.mark.parametrize("what", ["no context", "nothing answers", "no command"])
def test_kubernetes_that_is_not_there(what: str, kubectl: None, tmp_path: Path) -> None:
    env = _config(tmp_path, "http://127.0.0.1:9")
    if what == "no context":
        env["KUBECONFIG"] = str(tmp_path / "none")
    if what == "no command":
        env["PATH"] = str(Path(sys.executable).parent)
    done = ftc_process("doctor", "--target", "kubernetes", cwd=tmp_path, **env)
    line = {
        "no context": "MISSING  context: ",
        "nothing answers": "MISSING  cluster: does not answer",
        "no command": "MISSING  kubectl: not here",
    }
    assert done.returncode == 1
    assert line[what] in done.stdout, done.stdout
    assert "Traceback" not in done.stderr


def test_ray(ray_cluster: dict[str, str], tmp_path: Path) -> None:
    """From inside of its network."""
    namespace = json.loads(ray_cluster["NAMESPACE"])
    command = [*namespace, sys.executable, "-m", "ftdsl.cli.main", "doctor", "--target", "ray"]
    env = {**os.environ, "RAY_ADDRESS": ray_cluster["RAY_ADDRESS"], "PATH": ray_cluster["PATH"]}
    end = time.monotonic() + 120
    while True:  # the node is listed a little after the dashboard answers
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        if done.returncode == 0 or time.monotonic() > end:
            break
        time.sleep(3)
    assert done.returncode == 0, done.stdout + done.stderr
    version = subprocess.run(
        [tool("ray"), "-c", "import ray; print(ray.__version__)"], capture_output=True, text=True, check=True
    )
    assert f"ok       cluster: Ray {version.stdout.strip()} answers" in done.stdout
    assert "ok       version: the command is" in done.stdout
    assert "ok       nodes: 1 alive, 2 cores, 0 GPUs" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://127.0.0.1:9", "nothing answers at http://127.0.0.1:9"),
        ("ray://head:10001", "is not the address of a dashboard"),
    ],
)
def test_ray_that_is_not_there(address: str, line: str, tmp_path: Path) -> None:
    done = ftc_process("doctor", "--target", "ray", cwd=tmp_path, RAY_ADDRESS=address)
    assert done.returncode == 1
    assert line in done.stdout


def test_skypilot_without_a_server(tmp_path: Path) -> None:
    """The real command, with a home of its own; it must not start a server."""
    path = f"{tool('skypilot').parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = ftc_process("doctor", "--target", "skypilot", cwd=tmp_path, **env)
    assert done.returncode == 1
    assert "ok       sky: " in done.stdout, done.stdout
    assert "MISSING  API server: No SkyPilot API server is connected" in done.stdout, done.stdout
    assert not list(tmp_path.glob(".sky/api_server/*.log")), "none was started"
