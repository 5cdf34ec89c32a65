"""The facts of catalog/data/smoke.toml, run: each architecture is built small and learns a step, each optimizer takes one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ftdsl import catalog
from ftdsl.run.environments import Environment
from tests.conftest import ROOT

pytestmark = pytest.mark.real

TRY = """
import json, sys, warnings
warnings.filterwarnings("ignore")
sys.path.insert(0, sys.argv[1])
import torch
from runtime import toy
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
said = {}
ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
rows, seen = torch.randint(3, 500, (2, 12)), torch.ones(2, 12, dtype=torch.long)
seen[0, 8:] = 0  # rows of different lengths, as a batch has them: attention goes other ways than without
def step(model, optimizer=None):
    model(input_ids=rows, attention_mask=seen, labels=rows).loss.backward()
    if optimizer:
        optimizer.step()
for name in json.loads(sys.argv[2]):
    try:
        config = toy.config(name, None, ids, 512)
        assert config.num_hidden_layers == 2 and config.vocab_size == 512
        step(AutoModelForCausalLM.from_config(config))
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"[:200]
for name in json.loads(sys.argv[3]):
    try:
        model = AutoModelForCausalLM.from_config(toy.config("llama", None, ids, 512))
        args = TrainingArguments("out", optim=name, use_cpu=True, report_to="none")
        step(model, Trainer(model, args).create_optimizer())
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"[:200]
from llamafactory.data.mm_plugin import get_mm_plugin
from llamafactory.data.template import TEMPLATES
base = type(get_mm_plugin(name="base"))
said["seeing"] = sorted(name for name, template in TEMPLATES.items() if type(template.mm_plugin) is not base)
print("SAID " + json.dumps(said))
"""
OURS = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}
METHODS = ("galore", "apollo", "badam", "muon", "adam_mini")
"""Made by LLaMA-Factory itself; tests/plan has them, and recipes of tests/corpus were run with each."""


def test_every_architecture_and_optimizer_of_the_table(forking: Environment, tmp_path: Path) -> None:
    table = catalog.smoke()
    kinds = sorted({*table["families"].values(), *table["text_sides"].values()})
    named = table["members"]["optim.name"]["cpu"]
    optimizers = sorted({OURS.get(name, name) for name in named if name not in METHODS})
    command = [str(forking.python), "-c", TRY, str(ROOT / "ftdsl"), json.dumps(kinds), json.dumps(optimizers)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("SAID ")), None)
    assert line is not None, done.stderr[-2000:]
    assert json.loads(line.removeprefix("SAID ")) == {"seeing": table["seeing"]["templates"]}
    assert len(kinds) > 40
