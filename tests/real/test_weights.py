"""What type the weights have when `precision = fp32` is asked for: the engine loads a base as its checkpoint is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import ROOT

pytestmark = pytest.mark.real

PROBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models
import llamafactory.extras.misc as misc
misc._is_bf16_available = True  # as on a card
import llamafactory.model.patcher as patcher
from llamafactory.hparams import ModelArguments, FinetuningArguments
from llamafactory.model.loader import load_model, load_tokenizer
from runtime import extend

config = Qwen3Config(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                     num_key_value_heads=2, head_dim=16)
Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained("base")
words = {f"w{n}": n for n in range(60)} | {"<unk>": 60, "<eos>": 61}
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "<unk>")), eos_token="<eos>",
                                    unk_token="<unk>", pad_token="<eos>")
tokenizer.save_pretrained("base")
args = ModelArguments(model_name_or_path="base", infer_dtype="float32")
args.model_max_length, args.block_diag_attn = 64, False
model = load_model(load_tokenizer(args)["tokenizer"], args, FinetuningArguments(finetuning_type=sys.argv[2]), is_trainable=True)

def types():
    return sorted({str(p.dtype) for p in model.parameters()})

before = types()
for callback in extend.callbacks({"weights": "float32"}):
    callback.on_init_end(None, None, None, model=model)
print(json.dumps([before, types()]))
"""


@pytest.mark.parametrize("method", ["lora", "freeze"])
def test_frozen_weights_are_lifted_by_our_runtime(method: str, forking: Environment, tmp_path: Path) -> None:
    done = subprocess.run(
        [forking.python, "-c", PROBE, ROOT / "ftdsl", method], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before == ["torch.bfloat16", "torch.float32"], "the engine casts what is trained, whatever infer_dtype says"
    assert after == ["torch.float32"]
