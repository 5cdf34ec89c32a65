"""Weighted merges of adapters: `cat` and `svd` against the sum by hand, other methods against PEFT's own call; what has no
weighted sum is refused. With the PEFT of both engines.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT

pytestmark = pytest.mark.real

PROBE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from peft import LoraConfig, OFTConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from runtime import merge_adapters
from runtime.report import Log, StageError

torch.manual_seed(0)
config = Qwen3Config(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                     num_key_value_heads=2, head_dim=16, tie_word_embeddings=False)
Qwen3ForCausalLM(config).save_pretrained("base")
words = {f"w{n}": n for n in range(60)} | {"<unk>": 60, "<eos>": 61}
PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "<unk>")), eos_token="<eos>",
                        unk_token="<unk>").save_pretrained("base")
load = lambda: Qwen3ForCausalLM.from_pretrained("base", dtype="auto")

def adapter(name, **more):
    settings = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"], **more}
    model = get_peft_model(load(), settings.pop("config", None) or LoraConfig(**settings))
    for key, value in model.named_parameters():
        if "lora_B" in key or "oft_R" in key:
            torch.nn.init.normal_(value, std=0.1)
    model.save_pretrained(name)

adapter("a"); adapter("b"); adapter("wide", r=8, target_modules=["q_proj", "o_proj"]); adapter("rs", use_rslora=True)
adapter("dora", use_dora=True); adapter("oft", config=OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj"]))
adapter("whole", modules_to_save=["lm_head"])

def ours(name, spec):
    stage = Path(f"stage-{name}"); stage.mkdir()
    spec = {"stage": str(stage), "to": f"{stage}/result", "model": "base", "below": [], "seed": 3, "shard_bytes": 10**9, **spec}
    try:
        status = merge_adapters.merge(spec, Log(str(stage)))
    except StageError as error:
        return f"{error.code} {error.message}", ""
    return status, (stage / "metrics.jsonl").read_text()

def theirs(names, weights, **options):
    model = PeftModel.from_pretrained(load(), names[0], adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(name, adapter_name=name)
    torch.manual_seed(3)
    model.add_weighted_adapter(names, weights, "new", **options)
    model.set_adapter("new")
    return {key: value for key, value in model.merge_and_unload().state_dict().items()}

def by_hand(names, weights, rank):
    state, sums = {key: value.clone() for key, value in load().state_dict().items()}, {}
    for name, weight in zip(names, weights):
        held, found = json.loads(Path(name, "adapter_config.json").read_text()), load_file(f"{name}/adapter_model.safetensors")
        scale = held["lora_alpha"] / (held["r"] ** 0.5 if held["use_rslora"] else held["r"])
        for key, down in found.items():
            if ".lora_A." in key:
                module = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
                change = weight * scale * (found[key.replace(".lora_A.", ".lora_B.")] @ down)
                sums[module] = sums.get(module, 0) + change
    for module, change in sums.items():
        u, s, v = torch.linalg.svd(change, full_matrices=False)
        state[module] += (u[:, :rank] * s[:rank]) @ v[:rank]
    return state

def distance(name, wanted):
    made = {key: value for file in Path(f"stage-{name}/result").glob("*.safetensors") for key, value in load_file(file).items()}
    assert made.keys() == wanted.keys(), made.keys() ^ wanted.keys()
    changed = max(float((wanted[key] - load().state_dict()[key]).abs().max()) for key in made)
    return max(float((made[key] - wanted[key]).abs().max()) for key in made) / changed

out = {}
for name, (spec, names, weights, peft) in json.loads(sys.argv[2]).items():
    spec["adapters"] = [{"adapter": path, "weight": weight} for path, weight in zip(names, weights)]
    status, log = ours(name, spec)
    out[name] = [status, log]
    if status == 0:
        wanted = theirs(names, weights, **peft) if peft else by_hand(names, weights, spec.get("rank", 99))
        out[name].append(distance(name, wanted))
        out[name].append(sorted(path.name for path in Path(f"stage-{name}").rglob("*") if path.is_file()))
Path("out.json").write_text(json.dumps(out))
"""

Case = tuple[dict[str, Any], list[str], list[float], dict[str, Any] | None]
METHODS: dict[str, Case] = {
    "cat": ({"method": "cat"}, ["a", "b"], [0.3, 0.7], None),
    "cat of ranks": ({"method": "cat"}, ["a", "wide"], [0.3, 0.7], None),
    "cat, negative": ({"method": "cat"}, ["a", "b"], [1.0, -0.5], None),
    "cat, stabilised": ({"method": "cat"}, ["rs", "a"], [0.5, 0.5], None),
    "svd, full rank": ({"method": "svd", "rank": 12}, ["a", "wide"], [0.3, 0.7], None),
    "svd": ({"method": "svd", "rank": 5}, ["a", "wide"], [0.3, 0.7], None),
    "svd, of the largest rank": ({"method": "svd"}, ["a", "wide"], [1.0, 0.0], None),
    "linear": ({"method": "linear"}, ["a", "b"], [0.3, 0.7], {"combination_type": "linear"}),
    "ties": ({"method": "ties", "density": 0.5}, ["a", "b"], [0.3, 0.7], {"combination_type": "ties", "density": 0.5}),
    "dare": ({"method": "dare", "density": 0.6}, ["a", "b"], [1.0, 1.0], {"combination_type": "dare_ties", "density": 0.6}),
    "dare, no signs": ({"method": "dare", "density": 0.6, "signs": False}, ["a", "b"], [1.0, 1.0],
                       {"combination_type": "dare_linear", "density": 0.6}),
}  # fmt: skip
REFUSED: dict[str, tuple[Case, str]] = {
    "ranks": (({"method": "linear"}, ["a", "wide"], [1.0, 1.0], None), "ranks that differ: a 4, wide 8"),
    "dora": (({"method": "cat"}, ["a", "dora"], [1.0, 1.0], None), "dora is DoRA"),
    "oft": (({"method": "cat"}, ["oft", "a"], [1.0, 1.0], None), "oft is OFT"),
    "whole modules": (({"method": "cat"}, ["a", "whole"], [1.0, 1.0], None), "whole holds whole modules (lm_head)"),
    "nowhere": (({"method": "cat"}, ["a", "base"], [1.0, 1.0], None), "base is no adapter"),
}


@pytest.fixture(scope="module", params=["llamafactory", "trl"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    engine: Environment = request.getfixturevalue({"llamafactory": "forking", "trl": "forking_trl"}[request.param])
    folder = tmp_path_factory.mktemp("adapters")
    cases = json.dumps({**METHODS, **{name: case for name, (case, _) in REFUSED.items()}})
    command: list[Any] = [engine.python, "-c", PROBE, ROOT / "ftdsl", cases]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", METHODS)
def test_the_merged_model_is_what_the_method_says(name: str, made: dict[str, Any]) -> None:
    status, log, distance, files = made[name]
    assert status == 0, log
    assert distance < 1e-4, "of the largest change"
    assert "compared with base + adapters" in log and "loaded again" in log
    assert ("worked out again" in log) == name.startswith("cat")
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "model.safetensors"} <= {*files}


@pytest.mark.parametrize("name", REFUSED)
def test_adapters_without_a_weighted_sum_are_refused(name: str, made: dict[str, Any]) -> None:
    assert made[name][0].startswith("FT972") and REFUSED[name][1] in made[name][0], made[name][0]
