"""A data set of a hub: from the hub when it answers, else from the cache; a pinned revision is that revision or an error.

The hub is a small server of ours that speaks as much of the hub's API as `datasets` asks for.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT
from tests.runtime.stage import ALPACA, lines, numbered

pytestmark = pytest.mark.real

COMMITS = {"v1": "1" * 40, "v2": "2" * 40, "main": "2" * 40}
FILES = {"1" * 40: lines(numbered(30)).encode(), "2" * 40: lines(numbered(50)).encode()}
NAME = "data.jsonl"


class Hub(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            self._api(parts[4:])
        elif "resolve" in parts and parts[-1] == NAME:
            commit = COMMITS.get(parts[parts.index("resolve") + 1], parts[parts.index("resolve") + 1])
            etag = f'"{hashlib.sha1(FILES[commit]).hexdigest()}"'
            self.answer(FILES[commit], ETag=etag, X_Repo_Commit=commit, Accept_Ranges="bytes")
        else:
            self.answer(b"{}", 404, X_Error_Code="EntryNotFound")

    def _api(self, rest: list[str]) -> None:
        commit = COMMITS.get(rest[1], rest[1]) if len(rest) > 1 else COMMITS["main"]
        content = FILES[commit]
        if rest[:1] == ["tree"]:
            found: Any = [
                {"type": "file", "path": NAME, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            ]
        else:
            found = {"id": "org/answers", "sha": commit, "private": False, "gated": False, "disabled": False, "tags": [],
                     "downloads": 0, "likes": 0, "siblings": [{"rfilename": NAME}]}  # fmt: skip
        self.answer(json.dumps(found).encode(), Content_Type="application/json")


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_from_the_hub_then_from_the_cache_then_not_at_all(
    hub: ThreadingHTTPServer, engine: Environment, tmp_path: Path
) -> None:
    def run(revision: str, *, offline: bool, home: str = "one") -> tuple[int, str, int]:
        (tmp_path / "runtime").exists() or (tmp_path / "runtime").symlink_to(ROOT / "ftdsl" / "runtime")
        spec = {
            "stage": "10-d", "where": "r.ft:1", "format": "alpaca", "columns": ALPACA, "roles": {}, "drop": [],
            "dedupe": "none", "seed": 1, "sources": [{"hub": "hf", "id": "org/answers", "revision": revision}],
        }  # fmt: skip
        (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        env = {**os.environ, "HF_HOME": str(tmp_path / home), "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
        env |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        command = [str(engine.python), "-m", "runtime.data", "spec.json"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        train = tmp_path / "10-d" / "train.jsonl"
        rows = train.read_text(encoding="utf-8").count("\n") if done.returncode == 0 else 0
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr, rows

    assert run("v1", offline=False)[2] == 30
    assert run("1" * 40, offline=True)[2] == 30, "the commit is what the cache has"
    code, message, _ = run("2" * 40, offline=True)
    assert code == 1
    assert "the cache on this machine has another revision" in message
    assert run("v2", offline=False)[2] == 50
    code, message, _ = run("v1", offline=True, home="two")
    assert code == 1
    assert "neither from the hub nor from the cache on this machine" in message
