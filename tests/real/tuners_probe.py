"""Run by an engine's Python: `tuners_probe.py FOLDER`. Trains each adapter on one batch, saves it, loads it with the file beside
it in another process, and prints what it saw as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from ftdsl.runtime import tuners

STEPS = 30
OUTSIDE = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, *adapters = sys.argv[1:]
refused = {}
for adapter in adapters:
    try:
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    except Exception as error:
        refused[adapter] = repr(error)
sys.path.insert(0, adapters[0])
from load_adapter import load
for adapter in adapters:
    model = load(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    torch.save(model(torch.load(adapter + "/ids.pt")).logits, adapter + "/logits.pt")
assert not any(name.startswith("ftdsl") for name in sys.modules)
print(json.dumps(refused))
"""


def base(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)


def trained(folder: Path, config: Any, ids: torch.Tensor) -> tuple[Any, dict[str, Any]]:
    """The model after some steps on one batch, and what changed."""
    torch.manual_seed(0)
    plain = base(folder)
    before = plain(ids).logits.detach()
    model = get_peft_model(plain, config)
    model.train()
    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    seen: dict[str, Any] = {"same_at_start": float((model(ids).logits - before).abs().max())}
    tuners.forget(model)
    tuners.routing_of(model)
    seen["losses"], seen["routing"] = [], []
    for _ in range(STEPS):
        loss, balance = model(ids, labels=ids).loss, tuners.balance_loss(model)
        (loss if balance is None else loss + balance).backward()
        optimizer.step()
        optimizer.zero_grad()
        seen["losses"].append(loss.item())
        seen["routing"].append(tuners.routing_of(model))
    parameters = dict(model.named_parameters())
    seen["unmoved"] = [name for name, was in start.items() if torch.equal(was, parameters[name])]
    seen["trainable"] = sum(p.numel() for p in start.values())
    model.eval()
    with model.disable_adapter():
        seen["switched_off"] = float((model(ids).logits - before).abs().max())
    try:
        model.merge_and_unload()
        seen["merge"] = "merged"
    except ValueError as error:
        seen["merge"] = str(error)
    return model, seen


def saved(adapter: Path, model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The logits of a model whose adapter is saved."""
    model.save_pretrained(adapter)
    tuners.save_loader(adapter)
    torch.save(ids, adapter / "ids.pt")
    logits: torch.Tensor = model(ids).logits.detach()
    return logits


def reloaded(folder: Path, logits: dict[str, torch.Tensor], seen: dict[str, Any]) -> None:
    """The adapters loaded in another process: by PEFT alone, and by the file beside them."""
    paths = [str(folder / name) for name in logits]
    command = [sys.executable, "-I", "-c", OUTSIDE, str(folder / "base"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    refused = json.loads(done.stdout.splitlines()[-1])
    for path, (name, before) in zip(paths, logits.items(), strict=True):
        after = torch.load(Path(path) / "logits.pt")
        seen[name]["outside"], seen[name]["plain"] = float((after - before).abs().max()), refused.get(path, "loaded")
        seen[name]["peft_type"] = json.loads((Path(path) / "adapter_config.json").read_text())["peft_type"]


def main(folder: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=256, num_key_value_heads=2, head_dim=16, **shape)).save_pretrained(
        folder / "base"
    )
    ids = torch.randint(0, 256, (4, 16))
    configs = {
        "bottleneck": tuners.BottleneckConfig(size=16, task_type="CAUSAL_LM"),
        "mlp": tuners.BottleneckConfig(size=8, sublayers=["mlp"], activation="gelu", task_type="CAUSAL_LM"),
        "moe": tuners.MoeLoraConfig(r=4, experts=4, top_k=2, balance=0.05, task_type="CAUSAL_LM"),
        "unbalanced": tuners.MoeLoraConfig(r=4, experts=4, top_k=1, balance=0.0, task_type="CAUSAL_LM"),
    }
    seen, logits = {}, {}
    for name, config in configs.items():
        model, seen[name] = trained(folder / "base", config, ids)
        if name in ("bottleneck", "moe"):
            logits[name] = saved(folder / name, model, ids)
    reloaded(folder, logits, seen)
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
