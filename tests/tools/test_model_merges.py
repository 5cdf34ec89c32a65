"""Six methods of merging against mergekit's own command, tensor for tensor; and what is refused before anything is merged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.tools

PROBE = """
import json, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from click.testing import CliRunner
from mergekit.scripts.run_yaml import main as command
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from runtime import merge_models
from runtime.report import Log, StageError

torch.manual_seed(0)
def config(**more):
    return Qwen3Config(**{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": False, **more})
def tokenizer(name, start=0):
    words = {f"w{n + start}": n for n in range(60)} | {"<unk>": 60, "<eos>": 61}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "<unk>")), eos_token="<eos>",
                            unk_token="<unk>").save_pretrained(name)
base = Qwen3ForCausalLM(config())
base.save_pretrained("base")
for name in ("a", "b", "c"):
    model = Qwen3ForCausalLM.from_pretrained("base")
    for value in model.parameters():
        value.data += 0.05 * torch.randn_like(value)
    model.save_pretrained(name)
Qwen3ForCausalLM(config(hidden_size=48)).save_pretrained("wide")
Qwen3ForCausalLM(config(vocab_size=80)).save_pretrained("words")
Qwen3ForCausalLM(config(attention_bias=True)).save_pretrained("bias")
Qwen3ForCausalLM.from_pretrained("a").save_pretrained("other-tokens")
for name in ("base", "a", "b", "c", "wide", "words", "bias"):
    tokenizer(name)
tokenizer("other-tokens", 7)

def ours(name, spec):
    stage = Path(f"stage-{name}"); stage.mkdir()
    spec = {"stage": str(stage), "to": f"{stage}/result", "seed": 3, "shard_bytes": 5_000_000_000, **spec}
    try:
        status = merge_models.merge(spec, Log(str(stage)))
    except StageError as error:
        return f"{error.code} {error.message}", ""
    log = stage / "metrics.jsonl"
    return status, log.read_text() if log.exists() else ""

def theirs(name, text):
    Path(f"{name}.yml").write_text(text)
    done = CliRunner().invoke(command, [f"{name}.yml", f"theirs-{name}", "--random-seed", "3", "--copy-tokenizer"])
    assert done.exit_code == 0, (done.output, done.exception)

def equal(name):
    one, other = ({key: value for file in sorted(Path(folder).glob("*.safetensors")) for key, value in load_file(file).items()}
                  for folder in (f"stage-{name}/result", f"theirs-{name}"))
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), len(one)

out = {}
for name, (spec, text) in json.loads(sys.argv[2]).items():
    status, log = ours(name, spec)
    if text:
        theirs(name, text)
        out[name] = [status, log, *equal(name), sorted(path.name for path in Path(f"stage-{name}/result").iterdir())]
    else:
        out[name] = [status, log]
Path("out.json").write_text(json.dumps(out))
"""


def models(*names: str, **more: list[float]) -> list[dict[str, Any]]:
    return [{"model": name} | {key: values[at] for key, values in more.items()} for at, name in enumerate(names)]


METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "linear": (
        {"method": "linear", "models": models("a", "b", "c", weight=[0.5, 0.3, 0.4])},
        "merge_method: linear\nmodels:\n"
        "- {model: ./a, parameters: {weight: 0.5}}\n- {model: ./b, parameters: {weight: 0.3}}\n"
        "- {model: ./c, parameters: {weight: 0.4}}\n",
    ),
    "slerp": (
        {"method": "slerp", "models": models("a", "b"), "t": 0.3},
        "merge_method: slerp\nbase_model: ./a\nmodels:\n- model: ./a\n- model: ./b\nparameters: {t: 0.3}\n",
    ),
    "ties": (
        {"method": "ties", "models": models("a", "b", density=[0.5, 0.7]), "base": {"model": "base"}},
        "merge_method: ties\nbase_model: ./base\nmodels:\n"
        "- {model: ./a, parameters: {weight: 1.0, density: 0.5}}\n- {model: ./b, parameters: {weight: 1.0, density: 0.7}}\n",
    ),
    "dare": (
        {"method": "dare", "models": models("a", "b"), "density": 0.6, "base": {"model": "base"}},
        "merge_method: dare_ties\nbase_model: ./base\nmodels:\n"
        "- {model: ./a, parameters: {weight: 1.0, density: 0.6}}\n- {model: ./b, parameters: {weight: 1.0, density: 0.6}}\n",
    ),
    "task_arithmetic": (
        {"method": "task_arithmetic", "models": models("a", "b", weight=[0.8, -0.2]), "base": {"model": "base"}},
        "merge_method: task_arithmetic\nbase_model: ./base\nmodels:\n"
        "- {model: ./a, parameters: {weight: 0.8}}\n- {model: ./b, parameters: {weight: -0.2}}\n",
    ),
    "model_stock": (
        {"method": "model_stock", "models": models("a", "b", "c"), "base": {"model": "base"}},
        "merge_method: model_stock\nbase_model: ./base\nmodels:\n- model: ./a\n- model: ./b\n- model: ./c\n",
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another width": ({"method": "linear", "models": models("a", "wide")}, ""),
    "another vocabulary": ({"method": "linear", "models": models("a", "words")}, ""),
    "other tensors": ({"method": "linear", "models": models("a", "bias")}, ""),
    "no such model": ({"method": "linear", "models": models("a", "nowhere")}, ""),
}
WARNED: dict[str, tuple[dict[str, Any], str]] = {
    "other tokens": ({"method": "linear", "models": models("b", "other-tokens")}, "")
}


@pytest.fixture(scope="module")
def made(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("merged")
    cases = json.dumps({**METHODS, **REFUSED, **WARNED})
    command: list[Any] = [tool("mergekit"), "-c", PROBE, ROOT / "ftdsl", cases]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_tensors_are_those_of_the_tools_own_command(method: str, made: dict[str, Any]) -> None:
    status, log, same, count, files = made[method]
    assert status == 0 and same and count > 20
    assert "loaded again" in log
    assert ("worked out again" in log) == (method in ("linear", "task_arithmetic"))
    assert {"tokenizer.json", "generation_config.json"} <= set(files)


@pytest.mark.parametrize("case", REFUSED)
def test_models_that_do_not_match_are_refused(case: str, made: dict[str, Any]) -> None:
    assert str(made[case][0]).startswith("FT972"), made[case]


def test_other_tokens_are_a_warning(made: dict[str, Any]) -> None:
    status, log = made["other tokens"]
    assert status == 0 and "tokenizers" in log and "FT972" in log
