"""A merge that holds what its adapters learned passes, and one that does not is refused: peft's own, and what can go wrong."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT

pytestmark = pytest.mark.real

PROBE = """
import json, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from peft import LoraConfig, OFTConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM
from runtime import proof
from runtime.report import Log, StageError

torch.manual_seed(0)
config = Qwen3Config(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                     num_key_value_heads=2, head_dim=16, tie_word_embeddings=False)
Qwen3ForCausalLM(config).save_pretrained("base")
Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained("base16")
load = lambda name: Qwen3ForCausalLM.from_pretrained(name, dtype="auto")

def adapter(name, base="base", size=0.1, **more):
    settings = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"], **more}
    model = get_peft_model(load(base), settings.pop("config", None) or LoraConfig(**settings))
    for key, value in model.named_parameters():
        if "lora_B" in key or "oft_R" in key:
            torch.nn.init.normal_(value, std=size)
        if "magnitude" in key:
            value.data *= 1.1
    model.save_pretrained(name)

def merge(base, adapters, made, dtype=None):
    model = load(base)
    for name in adapters:
        model = PeftModel.from_pretrained(model, name).merge_and_unload()
    (model.to(dtype) if dtype else model).save_pretrained(made)

adapter("plain"); adapter("rs", use_rslora=True); adapter("dora", use_dora=True); adapter("half", base="base16")
adapter("faint", base="base16", size=1e-7); adapter("none", size=0.0)
adapter("oft", config=OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj"]))
merge("base", ["plain"], "m-plain"); merge("base", ["rs"], "m-rs"); merge("base", ["dora"], "m-dora")
merge("base", ["plain", "rs"], "m-two"); merge("base16", ["half"], "m-half"); merge("base", ["plain"], "m-16", torch.bfloat16)
merge("base16", ["faint"], "m-faint"); merge("base", ["oft"], "m-oft")
adapter("usual", base="base16", size=5e-4); adapter("small", base="base16", size=1.25e-4); adapter("small32", size=1.25e-4)
merge("base16", ["usual"], "m-usual"); merge("base16", ["small"], "m-small")
merge("base", ["small32"], "m-small32", torch.bfloat16)
load("base").save_pretrained("m-unmerged", max_shard_size="20KB")
load("base").to(torch.bfloat16).save_pretrained("m-unmerged32")
load("base16").save_pretrained("m-unmerged16")
shutil.copytree("m-plain", "m-torn")
tensors = load_file("m-torn/model.safetensors"); tensors.pop("model.layers.1.mlp.up_proj.weight")
save_file(tensors, "m-torn/model.safetensors", {"format": "pt"})
shutil.copytree("m-plain", "m-nan")
tensors = load_file("m-nan/model.safetensors"); tensors["model.norm.weight"][0] = float("nan")
save_file(tensors, "m-nan/model.safetensors", {"format": "pt"})

def seen(base, adapters, made):
    Path("stage/metrics.jsonl").unlink(missing_ok=True); Path("stage").mkdir(exist_ok=True)
    try:
        text = proof.compare(base, adapters, Path(made), Log("stage")) + "; " + proof.reload(Path(made))
    except StageError as error:
        text = f"{error.code} {error.message}"
    log = Path("stage/metrics.jsonl")
    return [text, log.read_text() if log.exists() else ""]

print(json.dumps({name: seen(*case) for name, case in json.loads(sys.argv[2]).items()}))
"""
CASES = {
    "lora": ("base", ["plain"], "m-plain"),
    "rslora": ("base", ["rs"], "m-rs"),
    "dora": ("base", ["dora"], "m-dora"),
    "two adapters": ("base", ["plain", "rs"], "m-two"),
    "a bf16 base": ("base16", ["half"], "m-half"),
    "another dtype": ("base", ["plain"], "m-16"),
    "oft": ("base", ["oft"], "m-oft"),
    "an adapter that learned nothing": ("base", ["none"], "m-unmerged"),
    "a change of 2%": ("base16", ["usual"], "m-usual"),
    "a change of 0.5%": ("base16", ["small"], "m-small"),
    "a change of 0.5%, rounded at the end": ("base", ["small32"], "m-small32"),
    "the bf16 base, 2%": ("base16", ["usual"], "m-unmerged16"),
    "the bf16 base, 0.5%": ("base16", ["small"], "m-unmerged16"),
    "the base in bf16, 0.5%": ("base", ["small32"], "m-unmerged32"),
    "the base, in shards": ("base", ["plain"], "m-unmerged"),
    "the second adapter lost": ("base", ["plain", "rs"], "m-plain"),
    "another scale": ("base", ["rs"], "m-plain"),
    "a tensor lost": ("base", ["plain"], "m-torn"),
    "a number that is none": ("base", ["plain"], "m-nan"),
    "less than the dtype holds": ("base16", ["faint"], "m-faint"),
}


@pytest.fixture(scope="module")
def seen(forking: Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """By case: what the proof says, and the stage's events."""
    command: list[Any] = [forking.python, "-c", PROBE, ROOT / "ftdsl", json.dumps(CASES)]
    done = subprocess.run(command, cwd=tmp_path_factory.mktemp("merges"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


HELD = ("lora", "rslora", "dora", "two adapters", "a bf16 base", "another dtype", "a change of 2%", "a change of 0.5%",
        "a change of 0.5%, rounded at the end")  # fmt: skip
LOST = ("the base, in shards", "the second adapter lost", "another scale", "the bf16 base, 2%", "the bf16 base, 0.5%",
        "the base in bf16, 0.5%")  # fmt: skip


@pytest.mark.parametrize("case", HELD)
def test_a_merge_that_holds_its_adapters_passes(case: str, seen: dict[str, list[str]]) -> None:
    text, events = seen[case]
    assert text.startswith("compared with base + adapters: model.layers.") and text.endswith("; loaded again"), text
    assert not events


@pytest.mark.parametrize("case", LOST)
def test_a_merge_without_its_adapters_is_refused(case: str, seen: dict[str, list[str]]) -> None:
    assert seen[case][0].startswith("FT970 what was merged does not hold what its adapters learned"), seen[case]
    assert ("unchanged" in seen[case][0]) == case.startswith("the b")


@pytest.mark.parametrize("case", ["a tensor lost", "a number that is none"])
def test_a_model_that_is_not_whole_is_refused(case: str, seen: dict[str, list[str]]) -> None:
    assert seen[case][0].startswith("FT970 what was made"), seen[case]


def test_what_cannot_be_compared_is_said(seen: dict[str, list[str]]) -> None:
    assert seen["oft"][0] == "no weights to compare; loaded again"
    assert seen["an adapter that learned nothing"][0].startswith("the adapters change no weight")


def test_a_change_below_the_rounding_of_the_dtype_warns(seen: dict[str, list[str]]) -> None:
    assert '"code": "FT971"' in seen["less than the dtype holds"][1] and "dtype" in seen["less than the dtype holds"][1]
