"""Where sizes of models come from: the project's file, the hub's cache, a hub that is asked, the name; never a guess unsaid."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ftdsl.estimate.architecture import NotModelledError
from ftdsl.plan.model_sizes import PROJECT_FILE, hub_folder, sizes_of
from ftdsl.session import Files
from tests.conftest import ftc

CONFIG = {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
          "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
          "tie_word_embeddings": False}  # fmt: skip
PARAMS = 8_190_735_360


def test_the_projects_file_counts_before_the_name(tmp_path: Path) -> None:
    entry = {"revision": "abc", "config": CONFIG}
    (tmp_path / PROJECT_FILE).write_text(json.dumps({"own/model-3B": entry}), encoding="utf-8")
    sizes = sizes_of("own/model-3B", tmp_path, Files())
    assert sizes.params == PARAMS and sizes.uncertainty == 0
    assert sizes_of("own/other-3B", tmp_path, Files()).uncertainty > 0


@pytest.mark.parametrize("with_ref", [True, False])
def test_the_hubs_cache_is_read(tmp_path: Path, with_ref: bool) -> None:
    folder = tmp_path / "hub" / "models--own--secret"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    if with_ref:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("abc", encoding="utf-8")
    hub = hub_folder({"HF_HOME": str(tmp_path)})
    assert sizes_of("own/secret", tmp_path, Files(), hub).params == PARAMS
    with pytest.raises(NotModelledError, match="ftc models add own/secret"):
        sizes_of("own/secret", tmp_path, Files())


class Hub(BaseHTTPRequestHandler):
    """A hub of one model."""

    def do_GET(self) -> None:
        if self.path != "/own/secret/resolve/main/config.json":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "c0ffee")
        self.end_headers()
        self.wfile.write(json.dumps(CONFIG).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.slow
def test_a_model_is_added_once_with_its_revision(tmp_path: Path, hub: str) -> None:
    done = ftc("models", "add", "own/secret", cwd=tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / PROJECT_FILE).read_text(encoding="utf-8"))
    assert kept["own/secret"] == {"revision": "c0ffee", "config": CONFIG}
    shown = ftc("models", "show", "own/secret", cwd=tmp_path)
    assert "8.19 billion parameters" in shown.stdout and "guessed" not in shown.stdout
    missing = ftc("models", "add", "own/other", cwd=tmp_path, HF_ENDPOINT=hub)
    assert missing.returncode == 1 and "404" in missing.stderr and "Traceback" not in missing.stderr


def test_a_size_in_a_name_is_said_to_be_a_guess(tmp_path: Path) -> None:
    shown = ftc("models", "show", "somebody/thing-13B", cwd=tmp_path, HF_HOME=str(tmp_path))
    assert "13.00 billion parameters" in shown.stdout and "guessed from the name" in shown.stdout
