"""`serve` of an `eval` stage on toys: transformers' own server, right and wrong chat templates; the other servers' protocols."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ftdsl.environments import folder_of, python_in
from ftdsl.runtime import servers
from ftdsl.runtime.report import StageError
from tests.command import ftc_process
from tests.conftest import ROOT

RIGHT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
    "right": (RIGHT, ""),
    "a system prompt": ("{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}" + RIGHT, "from token"),
    "no answer begun": (RIGHT.partition("{% if")[0], "its end"),
    "other marks": (RIGHT.replace("<|im_start|>", "[").replace("<|im_end|>", "]"), "from token 1 on"),
    "refuses": ("{{ raise_exception('no roles') }}", "refuses it"),
}
TOY = """
import json, sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
import torch
torch.manual_seed(0)
marks = ["<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
own = Tokenizer(models.BPE())
own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
own.train_from_iterator(["What is the capital of France?"], trainers.BpeTrainer(vocab_size=400, special_tokens=marks,
    show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
config = Qwen3Config(vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, head_dim=16, eos_token_id=3, pad_token_id=0, bos_token_id=1)
model = Qwen3ForCausalLM(config)
for name, template in json.loads(sys.argv[1]).items():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<|im_end|>", pad_token="<pad>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(name)
    model.save_pretrained(name)
"""
RECIPE = """
template = qwen3_nothink
hardware { gpu = none, count = 1 }
data rows { source = file("rows.jsonl") }
eval served {
  model = file("MODEL")
  serve = transformers
  DATA
  generate { max_new_tokens = 6 }
  gate { prompts_equal = at_least(100%), answers_equal = at_least(90%) }
}
"""


@pytest.fixture(scope="module")
def toys(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, saved with each chat template."""
    folder = tmp_path_factory.mktemp("served")
    named = {name.replace(" ", "-"): template for name, (template, _) in TEMPLATES.items()}
    command: list[Any] = [tool("transformers"), "-c", TOY, json.dumps(named)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    rows = [{"instruction": f"Where is town {number}?", "input": "", "output": "here"} for number in range(5)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.mark.tools
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_differs_is_seen(name: str, toys: Path, tool: Callable[[str], Path], tmp_path: Path) -> None:
    """`ftc run`: the server is started, asked, and ended; a gate stops the pipeline where it writes other prompts."""
    model, (_, difference) = name.replace(" ", "-"), TEMPLATES[name]
    (tmp_path / model).symlink_to(toys / model)
    (tmp_path / "rows.jsonl").symlink_to(toys / "rows.jsonl")
    text = RECIPE.replace("MODEL", model).replace("DATA", "data = rows" if name == "right" else "limit = 3")
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    engine = str(ROOT / python_in(folder_of("llamafactory")))
    env = {"FT_TRANSFORMERS_PYTHON": str(tool("transformers")), "FTC_ENGINE_PYTHON": engine, "HF_HUB_OFFLINE": "1"}
    done = ftc_process("run", "r.ft", "--json", cwd=tmp_path, timeout=900, **env)
    stage = next(stage for stage in json.loads(done.stdout)["stages"] if stage["stage"] == "served")
    assert stage["metrics"]["questions"] == (5 if name == "right" else 3), done.stderr
    lines = next(tmp_path.glob("runs/*/last/*-served/served.jsonl")).read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    assert not _servers(tmp_path), "it was ended"
    if name == "right":
        assert done.returncode == 0, done.stderr
        assert (stage["metrics"]["prompts_equal"], stage["metrics"]["answers_equal"]) == (1, 1), asked
        assert all(row["predict"] and "Where is town" in row["prompt"] for row in asked)
        return
    assert done.returncode == 3, done.stderr
    assert stage["metrics"]["prompts_equal"] == 0
    assert difference in asked[0]["difference"]
    assert "3 of 3 prompts otherwise than the training" in done.stderr, done.stderr


def _servers(folder: Path) -> list[str]:
    """Servers that still run for a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if " serve " in line and str(folder) in line:
            found.append(line)
    return found


# --- servers that are not here: their command lines, and what is made of their answers


class _Chat(BaseHTTPRequestHandler):
    """Answers as vLLM (`/v1/…`, `/tokenize`) and Ollama (`/api/chat`) document it, and keeps what it was asked."""

    seen: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, body))
        answer: dict[str, Any] = {
            "/v1/chat/completions": {"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": 3}},
            "/tokenize": {"count": 3, "tokens": [5, 6, 7]},
            "/api/chat": {"message": {"role": "assistant", "content": "no"}, "prompt_eval_count": 4, "done": True},
        }[self.path]
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def chat() -> Iterator[str]:
    _Chat.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize(("kind", "reply"), [
    ("vllm", servers.Reply("yes", 3, (5, 6, 7))), ("transformers", servers.Reply("yes", 3)), ("ollama", servers.Reply("no", 4)),
])  # fmt: skip
@pytest.mark.slow
def test_what_a_server_is_asked(kind: str, reply: servers.Reply, chat: str) -> None:
    served = servers.Server(kind, chat, (), "/", {}, "m")
    messages = [{"role": "user", "content": "Hi"}]
    assert served.ask(messages, 9, thinking=False, seed=1) == reply
    for path, body in _Chat.seen:
        assert body["messages"] == messages and body["model"] == "m"
        if path == "/v1/chat/completions":
            assert body["temperature"] == 0 and body["max_tokens"] == 9
        if path != "/api/chat":
            assert body["chat_template_kwargs"] == {"enable_thinking": False}
        else:
            assert body["options"] == {"temperature": 0, "seed": 1, "num_predict": 9} and body["stream"] is False


def test_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port and a folder of its own; nothing listens to other machines."""
    made = servers.server("vllm", "/m", tmp_path, device="cuda", trust=True)
    assert made.command[2:5] == ("vllm.entrypoints.cli.main", "serve", "/m") and "--trust-remote-code" in made.command
    for kind in ("vllm", "transformers"):
        command = servers.server(kind, "/m", tmp_path, device="cpu", trust=False).command
        assert command[command.index("--host") + 1] == "127.0.0.1"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageError) as error:
        servers.server("ollama", str(tmp_path), tmp_path, device="cpu", trust=False)
    assert error.value.code == "FT955"
    (tmp_path / "ollama").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "ollama").chmod(0o755)
    with pytest.raises(StageError, match="Modelfile"):
        servers.server("ollama", str(tmp_path), tmp_path, device="cpu", trust=False)
    (tmp_path / "Modelfile").write_text("FROM .\n", encoding="utf-8")
    made = servers.server("ollama", str(tmp_path), tmp_path, device="cpu", trust=False)
    assert made.env["OLLAMA_HOST"].startswith("127.0.0.1:") and made.env["OLLAMA_MODELS"].startswith(str(tmp_path))
    assert made.prepare[1:3] == ("create", "checked")


def test_a_server_that_does_not_start_is_ended(tmp_path: Path) -> None:
    """Its last line is the reason."""
    served = servers.Server("vllm", "http://127.0.0.1:9", ("sh", "-c", "echo no card >&2; exit 4"), "/health", {}, "m")
    with pytest.raises(StageError) as error, servers.started(served, tmp_path / "server.txt"):
        pass
    assert "status 4: no card" in error.value.message and error.value.code == "FT977"
