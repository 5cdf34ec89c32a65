"""Faults that only a run can find, planted one by one: each ends in a sentence at the recipe's line, with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ftc_process

pytestmark = pytest.mark.real

HEAD = "hardware { gpu = h100(80GB), count = 1 }\n"
ALPACA = [{"instruction": f"What is {n} and one?", "input": "", "output": f"It is {n + 1}."} for n in range(16)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass
class Found:
    """The problem a smoke run ends with, and everything it said."""

    problem: dict[str, Any]
    expected: str
    log: str

    @property
    def place(self) -> str:
        return f"{self.problem['file']}:{self.problem['line']}"


@pytest.fixture
def planted(forking: Environment, tmp_path: Path) -> Callable[..., Found]:
    """Smoke-run a recipe of one stage that must fail."""

    def run(text: str, *files: tuple[str, str]) -> Found:
        for name, content in (("r.ft", HEAD + text), ("rows.jsonl", lines(ALPACA)), *files):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        done = ftc_process(
            "run", "r.ft", "--smoke", "--json", "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path
        )
        assert done.returncode == 1, done.stderr[-2000:]
        assert "Traceback" not in done.stdout + done.stderr
        (recipe,) = json.loads(done.stdout)["recipes"]
        errors = [one for one in recipe["problems"] if one["severity"] == "error"]
        assert len(errors) == 1, recipe["problems"]
        assert errors[0]["help"], "a person is told what to do"
        logs = [log.read_text(encoding="utf-8") for log in tmp_path.glob("runs/*/*/*-sft/log.txt")]
        return Found(errors[0], done.stderr, "".join(logs))

    return run


def test_a_template_the_models_tokenizer_does_not_know(planted: Callable[..., Found]) -> None:
    found = planted(
        """
sft {
  model    = hf("Qwen/Qwen3-8B")
  data     = file("rows.jsonl")
  template = llama3
}
"""
    )
    assert (found.problem["code"], found.place) == ("FT952", "r.ft:6")
    assert "writes `<|start_header_id|>`" in found.problem["message"]
    assert "tokenizer { special = [" in found.problem["help"]


def test_every_label_masked(planted: Callable[..., Found]) -> None:
    rows = [{"instruction": f"{n} " * 400, "input": "", "output": "yes it is so " * 5} for n in range(16)]
    found = planted(
        """
sft {
  model   = hf("Qwen/Qwen3-8B")
  data    = file("long.jsonl")
  max_len = 12
}
""",
        ("long.jsonl", lines(rows)),
    )
    assert (found.problem["code"], found.place) == ("FT951", "r.ft:6")
    assert "nothing of the answers is left" in found.problem["message"]


def test_pairs_with_columns_of_their_own_in_sft(
    planted: Callable[..., Found], forking: Environment, tmp_path: Path
) -> None:
    """A check sees it in JSON Lines; in Parquet, whose rows it does not read, the run does."""
    rows = [{"question": f"q{n}", "good": f"a{n}", "bad": f"b{n}"} for n in range(16)]
    stage = '\nsft {\n  model = hf("Qwen/Qwen3-8B")\n  data  = file("prefs.%s")\n}\n'
    found = planted(stage % "jsonl", ("prefs.jsonl", lines(rows)))
    assert (found.problem["code"], found.place) == ("FT502", "r.ft:5")
    assert "they have `question`, `good`, `bad`" in found.problem["label"]
    import subprocess

    code = (
        f"import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.Table.from_pylist({rows!r}), 'prefs.parquet')"
    )
    subprocess.run([str(forking.python), "-c", code], cwd=tmp_path, check=True)
    found = planted(stage % "parquet")
    assert found.place == "r.ft:5"
    assert found.problem["message"] == "`sft`: the rows have no `instruction`"
    assert "Traceback" in found.log, "the whole story is in the log"


def test_a_destination_that_is_a_file(planted: Callable[..., Found]) -> None:
    found = planted(
        """
sft { model = hf("Qwen/Qwen3-8B"), data = file("rows.jsonl") }
merge from sft {
  to = "out/merged"
}
""",
        ("out", "a file"),
    )
    assert (found.problem["code"], found.place) == ("FT956", "r.ft:5")


def test_a_package_that_is_not_there(planted: Callable[..., Found], forking: Environment) -> None:
    assert "mixture-of-depth" not in forking.packages
    found = planted(
        """
sft {
  model = hf("meta-llama/Llama-3.1-8B-Instruct")
  data  = file("rows.jsonl")
  full {}
  llamafactory {
    mixture_of_depths = convert
  }
}
"""
    )
    assert (found.problem["code"], found.place) == ("FT955", "r.ft:8")
    assert "-m pip install mixture-of-depth" in found.problem["help"]


WORDS = "What is and one ? It . user assistant".split()
CHAT = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"


def folder(chat: str) -> list[tuple[str, str]]:
    """A model as it lies on a disk: a config, a tokenizer with its chat format; the weights are not looked at."""
    special = ["<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    added = [{"id": at, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for at, token in enumerate(special)]  # fmt: skip
    vocab = {token: at for at, token in enumerate([*special, *WORDS])}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }  # fmt: skip
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "unk_token": "<unk>", "chat_template": chat,
    }  # fmt: skip
    config = {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "vocab_size": len(vocab)}
    files = {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": settings}
    return [(f"models/own/{name}", json.dumps(content)) for name, content in files.items()]


LOCAL = """
sft {
  model    = file("models/own", like = "Qwen/Qwen3-8B")
  data     = file("rows.jsonl")
  template = qwen3
}
"""


def test_a_chat_format_without_a_generation_prompt(planted: Callable[..., Found]) -> None:
    found = planted(LOCAL, *folder(CHAT))
    assert (found.problem["code"], found.place) == ("FT953", "r.ft:4")
    assert "does not write `<|im_start|>assistant`" in found.problem["message"]
    assert "add_generation_prompt" in found.problem["help"]


def test_the_same_folder_mended_goes_through(forking: Environment, tmp_path: Path) -> None:
    mended = CHAT + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    for name, content in (("r.ft", HEAD + LOCAL), ("rows.jsonl", lines(ALPACA)), *folder(mended)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    done = ftc_process("run", "r.ft", "--smoke", "--no-preload", "--engine-python", str(forking.python), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stopped at step 2 and resumed" in done.stdout
