"""Why `variant = xlora` is refused: PEFT trains X-LoRA's gate, and saves the adapter without it. Fails once PEFT is mended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.run.environments import Environment
from tests.conftest import Outcome

pytestmark = pytest.mark.real

XLORA = """
import json, sys, torch
from pathlib import Path
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from peft import LoraConfig, PeftModel, XLoraConfig, get_peft_model

torch.manual_seed(0)
place, depth = Path(sys.argv[1]), int(sys.argv[2])
shape = AutoConfig.for_model("qwen3", vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                             num_attention_heads=2, num_key_value_heads=2, head_dim=16, use_cache=False)
AutoModelForCausalLM.from_config(shape).save_pretrained(place / "base")
base = lambda: AutoModelForCausalLM.from_pretrained(place / "base", use_cache=False)
paths = {}
for name in ("0", "1"):
    model = get_peft_model(base(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    paths[name] = str(place / f"adapter-{name}")
    model.save_pretrained(paths[name])
config = XLoraConfig(task_type="CAUSAL_LM", hidden_size=32, adapters=paths, xlora_depth=depth, xlora_size=16,
                     layerwise_scalings=True)
model = get_peft_model(base(), config)
gate = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
model.save_pretrained(place / "saved")
ids = torch.arange(24).reshape(2, 12)
again = PeftModel.from_pretrained(base(), str(place / "saved")).eval()
with torch.no_grad():
    apart = float((model.eval()(input_ids=ids).logits - again(input_ids=ids).logits).abs().max())
with safe_open(place / "saved" / "adapter_model.safetensors", "pt") as file:
    print(json.dumps({"gate": gate, "saved": list(file.keys()), "apart": apart}))
"""


@pytest.mark.parametrize("depth", [1, 2])
def test_peft_saves_no_gate(depth: int, forking_trl: Environment, tmp_path: Path) -> None:
    argv = [str(forking_trl.python), "-c", XLORA, str(tmp_path), str(depth)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    first = [name for name in found["gate"] if ".layers.0." in name]
    assert len(first) == 2, found
    assert not any(".layers.0." in name for name in found["saved"]), "it is saved: X-LoRA can be offered"
    assert found["apart"] > 0.01


def test_the_recipe_is_told(checked: Callable[..., Outcome]) -> None:
    text = """
    hardware { gpu = none, count = 1 }
    sft s { engine = trl, model = hf("Qwen/Qwen3-0.6B"), data = file("rows.jsonl"), lora { variant = xlora } }
    """
    outcome = checked(text, {"rows.jsonl": '{"instruction": "q", "output": "a"}\n'})
    (found,) = [diagnostic for diagnostic in outcome.found if diagnostic.code == "FT002"]
    assert "without the gate" in (found.help or "")
