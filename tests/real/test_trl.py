"""TRL and PEFT for real: every stage and method trains, saves, reloads with the same logits, and merges where it can."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.run.environments import Environment
from tests.conftest import ftc_process
from tests.real.trl_stages import carried_out

pytestmark = pytest.mark.real

DATA = 'model = tiny\ndata = file("rows.jsonl")\n'


def learns(found: dict[str, Any]) -> bool:
    """Some step is better than the first: in four steps of KTO the last one need not be."""
    return bool(min(found["losses"][1:]) < found["losses"][0])


STAGES = """
pretrain texts { model = tiny, data = file("texts.jsonl"), full { } }
sft whole { model = tiny, data = file("rows.jsonl"), full { } }
sft small { model = tiny, data = file("rows.jsonl"), lora { rank = 4 } }
dpo pairs from small { data = file("pairs.jsonl"), lora { rank = 2 } }
dpo further from pairs { data = file("pairs.jsonl") }
dpo alone { model = tiny, data = file("pairs.jsonl"), full { } }
kto liked from small { data = file("liked.jsonl"), lora { rank = 2 } }
reward judge { model = tiny, data = file("pairs.jsonl"), lora { rank = 4 } }
eval exam from further { data = file("rows.jsonl"), limit = 8 }
merge whole_again from further { }
"""


def test_every_stage_trains_and_hands_on(forking_trl: Environment, tmp_path: Path) -> None:
    report = carried_out(tmp_path, STAGES, forking_trl)
    for name in ("texts", "whole", "alone"):
        assert report[name]["trained"] == report[name]["all"], name
    for name in ("small", "pairs", "liked", "judge"):
        assert 0 < report[name]["trained"] < report[name]["all"] / 2, name
        assert report[name]["merge"] < 1e-4, name
    for name, found in report.items():
        if "losses" in found:
            assert found["reload"] <= 1e-6, name
            assert learns(found), (name, found["losses"])
    for name in ("pairs", "further", "alone"):
        assert abs(report[name]["losses"][0] - 0.6931) < 1e-3, "the model is its own reference at the start"
    exam = json.loads(next(tmp_path.glob("run/*-exam/result.json")).read_text(encoding="utf-8"))
    assert 0 < exam["metrics"]["loss"] < 7
    assert next(tmp_path.glob("run/*-whole_again/result")).joinpath("model.safetensors").exists()


METHODS = """
sft dora { lora { rank = 4, variant = dora } }
sft scaled { lora { rank = 4, rslora = true } }
sft principal { lora { rank = 4, init = pissa } }
sft orthonormal { lora { rank = 4, init = olora } }
sft some { lora { rank = 4, targets = [q_proj], modules_to_save = [lm_head] } }
sft prefixed { prefix { tokens = 5 } }
sft projected { prefix { tokens = 5, projection = true } }
sft prompted { prompt { tokens = 4 } }
sft spelled { prompt { tokens = 4, text = "red blue" } }
sft encoded { prompt { tokens = 4, encoder = mlp } }
sft recurrent { prompt { tokens = 4, encoder = lstm } }
sft moving { duration = 20 steps, lora { rank_budget = 2 } }
"""
PROMPTS = ("prefixed", "projected", "prompted", "spelled", "encoded", "recurrent")


def test_every_method_trains_saves_and_reloads(forking_trl: Environment, tmp_path: Path) -> None:
    report = carried_out(tmp_path, DATA + METHODS, forking_trl)
    for name, found in report.items():
        assert found["reload"] <= 1e-5, (name, found)
        assert 0 < found["trained"] < found["all"] * (0.6 if name == "recurrent" else 0.5), name
        assert learns(found), (name, found["losses"])
        assert ("merge" not in found) if name in PROMPTS else found["merge"] < 1e-4, (name, found.get("merge"))
    assert report["prefixed"]["trained"] == 5 * 2 * 2 * 64, "keys and values of 5 tokens in 2 layers"
    assert report["prompted"]["trained"] == report["spelled"]["trained"] == 4 * 64
    assert any("magnitude" in name for name in report["dora"]["names"])
    assert any("lm_head" in name for name in report["some"]["names"])


def test_ranks_move_down_to_the_budget(forking_trl: Environment, tmp_path: Path) -> None:
    text = DATA + "sft moving { duration = 20 steps, lora { rank_budget = 2, rank = 4 }, optim { warmup = 2 steps } }"
    carried_out(tmp_path, text, forking_trl)
    stage = next(tmp_path.glob("run/*-moving"))
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    sums = [int(line["message"].split(": ")[1].split()[0]) for line in lines if line["event"] == "note"]
    assert sums[0] == 4 * 14 and sums[-1] == 2 * 14, sums
    assert all(after <= before for before, after in pairwise(sums)), sums
    averages = [line["metrics"]["average_rank"] for line in lines if line["event"] == "step"]
    assert averages[0] == 4 and averages[-1] == 2, f"the rank it begins with, before its first step too: {averages}"
    ranks = json.loads((stage / "result" / "ranks.json").read_text(encoding="utf-8"))
    assert sum(ranks.values()) == 2 * 14 and len(set(ranks.values())) > 1, "ranks have moved between modules"


SIZES = {"road": "group_size = 16", "c3a": "block_size = 16", "vblora": "vector_length = 16, num_vectors = 32",
         "waveft": "n_frequency = 64", "fourier": "n_frequency = 64"}  # fmt: skip
"""Sizes that divide a toy's; the defaults are for real models."""


def test_every_variant_of_the_table(forking_trl: Environment, tmp_path: Path) -> None:
    stages = []
    for name, variant in catalog.variants().items():
        rank = ", rank = 4" if variant.get("rank") else ""
        own = f", trl {{ peft {{ {SIZES[name]} }} }}" if name in SIZES else ""
        stages.append(f"sft v_{name} {{ lora {{ variant = {name}{rank} }}{own} }}\n")
    for name in catalog.variants("init"):
        stages.append(f"sft i_{name} {{ lora {{ rank = 4, init = {name} }} }}\n")
    report = carried_out(tmp_path, DATA + "".join(stages), forking_trl)
    for name, variant in catalog.variants().items():
        found = report[f"v_{name}"]
        assert 0 < found["trained"] < found["all"], name
        assert found["reload"] <= 1e-5, (name, found["reload"])
        if variant["merges"]:
            assert found["merge"] < 1e-4, (name, found["merge"])
        else:
            assert isinstance(found["merge"], str), name
    assert len(report) == len(catalog.variants()) + len(catalog.variants("init"))


MIXTURE = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers, decoders
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
own = Tokenizer(models.BPE({text: at for at, text in enumerate([*marks, *alphabet])}, []))
own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
made = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<|im_end|>", pad_token="<|endoftext|>")
made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
made.save_pretrained(sys.argv[1])
shape = AutoConfig.for_model("qwen3_moe", vocab_size=len(made), hidden_size=32, intermediate_size=32, moe_intermediate_size=16,
    num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16, num_experts=4, num_experts_per_tok=2)
AutoModelForCausalLM.from_config(shape).save_pretrained(sys.argv[1])
"""
EXPERTS = """
engine = trl
hardware { gpu = none, count = 1 }
template = qwen3_nothink
max_len = 32
duration = 3 steps
batch { micro = 4 }
track { every = 1 steps }
optim { lr = 1e-2 }
data = file("rows.jsonl")
model = file("moe")
sft experts { lora { rank = 2, target_parameters = ["mlp.experts.gate_up_proj"] } }
"""


def test_parameters_of_fused_experts(forking_trl: Environment, tmp_path: Path) -> None:
    subprocess.run(
        [str(forking_trl.python), "-c", MIXTURE, str(tmp_path / "moe")], check=True, capture_output=True, timeout=120
    )
    found = carried_out(tmp_path, EXPERTS, forking_trl, head="")["experts"]
    assert found["names"] and all("experts" in name for name in found["names"])
    assert found["reload"] <= 1e-6 and found["merge"] < 1e-4


BOTH = """
hardware { gpu = none, count = 1 }
template = qwen3_nothink
max_len = 32
duration = 4 steps
batch { micro = 4 }
track { every = 1 steps }
optim { lr = 1e-2 }
sft first { engine = llamafactory, model = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2, vocab = 400),
  data = file("rows.jsonl"), lora { rank = 4 } }
dpo second from first { engine = trl, data = file("pairs.jsonl") }
sft third from second { engine = llamafactory, data = file("rows.jsonl") }
merge last from third { engine = llamafactory }
"""


def test_an_adapter_goes_from_one_engine_to_the_other_and_back(
    forking: Environment, forking_trl: Environment, tmp_path: Path
) -> None:
    from tests.real.trained import write_rows

    write_rows(tmp_path)
    (tmp_path / "r.ft").write_text(BOTH, encoding="utf-8")
    pythons = f"trl={forking_trl.python},llamafactory={forking.python}"
    done = ftc_process("run", "r.ft", "--json", "--no-preload", "--engine-python", pythons, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    stages = {stage["stage"]: stage["status"] for stage in json.loads(done.stdout)["stages"]}
    assert {stages[name] for name in ("first", "second", "third", "last")} == {"done"}
    loss = {}
    for name in ("first", "second", "third"):
        events = next(tmp_path.glob(f"runs/r/last/*-{name}/metrics.jsonl")).read_text(encoding="utf-8").splitlines()
        loss[name] = [event["loss"] for line in events if (event := json.loads(line))["event"] == "step"]
    assert abs(loss["second"][0] - 0.6931) < 1e-3
    assert loss["third"][0] < loss["first"][0], "it goes on from what the two before have learned"


PATIENT = (
    DATA
    + """
sft patient {
  full { }, duration = 30 steps, optim { lr = 1e-9 }
  evaluate { data = 10%, every = 1 steps }
  save { every = 1 steps, best_by = eval_loss }
  guard { patience = 2 }
}
"""
)


def test_it_stops_when_nothing_gets_better(forking_trl: Environment, tmp_path: Path) -> None:
    found = carried_out(tmp_path, PATIENT, forking_trl)["patient"]
    assert 2 < len(found["losses"]) < 30, "two evaluations without a better one"
