"""Servers of models with a chat interface: transformers', vLLM's (both OpenAI's protocol) and Ollama. Each is started for a
moment, on a port of its own of this machine, and ended with everything it started. Standard library only.

Sources: huggingface.co/docs/transformers (serving), docs.vllm.ai (vllm serve, /tokenize), github.com/ollama/ollama (docs/api.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .report import StageError

START = 900.0
"""Seconds that a server may take to load a model."""
ANSWER = 300.0
Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Reply:
    """What a server answers. prompt_tokens: how many it counts, -1 if it does not say; prompt_ids: where it says them."""

    text: str
    prompt_tokens: int = -1
    prompt_ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Server:
    """A server to start. command: its arguments; health: a path that answers when the model can be asked; env: variables."""

    kind: str
    url: str
    command: tuple[str, ...]
    health: str
    env: dict[str, str]
    model: str
    prepare: tuple[str, ...] = ()

    def ask(self, messages: Messages, most: int, *, thinking: bool | None, seed: int) -> Reply:
        """Greedily. Raises: OSError with what the server says where it refuses."""
        if self.kind == "ollama":
            options = {"temperature": 0, "seed": seed, "num_predict": most}
            body: dict[str, Any] = {
                "model": self.model,
                "messages": list(messages),
                "stream": False,
                "options": options,
            }
            answer = post(f"{self.url}/api/chat", body)
            return Reply(str(answer["message"]["content"]), int(answer.get("prompt_eval_count", -1)))
        body = {"model": self.model, "messages": list(messages), "temperature": 0, "max_tokens": most, "seed": seed}
        extra = {} if thinking is None else {"chat_template_kwargs": {"enable_thinking": thinking}}
        answer = post(f"{self.url}/v1/chat/completions", {**body, **extra})
        ids = None
        if self.kind == "vllm":
            tokenized = {"model": self.model, "messages": list(messages), "add_generation_prompt": True, **extra}
            ids = tuple(post(f"{self.url}/tokenize", tokenized)["tokens"])
        counted = int((answer.get("usage") or {}).get("prompt_tokens", -1))
        return Reply(str(answer["choices"][0]["message"]["content"] or ""), counted, ids)


def server(kind: str, model: str, folder: Path, *, device: str, trust: bool) -> Server:
    """model: a folder; folder: where the server may write. Raises: StageError where it is not installed."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    if kind == "ollama":
        program = shutil.which("ollama")
        if program is None:
            raise StageError("there is no `ollama` here", "serve", help="install it: ollama.com/download", code="FT955")
        if not Path(model, "Modelfile").is_file():
            text = f"{model} has no Modelfile, which Ollama needs"
            raise StageError(text, "serve", "model", help="a `merge` stage of LLaMA-Factory writes one", code="FT977")
        env = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(folder / "ollama")}
        create = (program, "create", "checked", "-f", str(Path(model, "Modelfile")))
        return Server(kind, url, (program, "serve"), "/api/version", env, "checked", create)
    trusted = ("--trust-remote-code",) if trust else ()
    if kind == "vllm":
        command = (sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model, "--host", "127.0.0.1", "--port",
                   str(port), "--served-model-name", "checked", *trusted)  # fmt: skip
        return Server(kind, url, command, "/health", {}, "checked")
    command = (sys.executable, "-m", "transformers.cli.transformers", "serve", model, "--host", "127.0.0.1", "--port",
               str(port), "--device", device, *trusted)  # fmt: skip
    return Server(kind, url, command, "/health", {}, model)


@contextlib.contextmanager
def started(served: Server, log: Path) -> Iterator[None]:
    """The server runs inside of the block; what it prints goes to `log`. Raises: StageError when it does not come up."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            served.command, env={**os.environ, **served.env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait(served, process, log)
        if served.prepare:
            done = subprocess.run(
                served.prepare,
                env={**os.environ, **served.env},
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
            if done.returncode:
                raise _broken(served, f"`{' '.join(served.prepare[:2])}` failed: {_last(done.stderr)}")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def _wait(served: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(served.url + served.health, timeout=10):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.3)
        if process.poll() is not None:
            raise _broken(
                served,
                f"it ended with status {process.returncode}: {_last(log.read_text(encoding='utf-8', errors='replace'))}",
            )
        if time.monotonic() > end:
            raise _broken(
                served,
                f"it did not answer within {START / 60:.0f} minutes: {_last(log.read_text(encoding='utf-8', errors='replace'))}",
            )


def _broken(served: Server, why: str) -> StageError:
    return StageError(f"the server ({served.kind}) did not start: {why}", "serve", code="FT977")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Raises: OSError with the server's own words."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER) as response:
            content: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise OSError(f"{error.code}: {error.read(2000).decode('utf-8', 'replace').strip()[:300]}") from error
    except ValueError as error:
        raise OSError(f"no JSON: {error}") from error
    return content


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
