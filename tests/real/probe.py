"""A callback that recipes of tests/real/test_methods.py name: what a training is made of, and what it changed, as JSON.

Runs under the engine's Python, copied beside the recipe; tests/methods.py reads what it writes (`Seen`).
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback


class Probe(TrainerCallback):  # type: ignore[misc]
    """Looks at the model when training begins, at its first forward pass, and when it has ended."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **at: Any) -> None:
        model, optimizer = at["model"], at["optimizer"]
        # weights of 4 bits are laid out anew at their first use on a CPU, and cannot learn anyway
        weights = {name: one for name, one in model.named_parameters() if not hasattr(one, "quant_state")}
        self.before = {name: one.detach().clone() for name, one in weights.items()}
        config = model.config
        self.seen = {
            "open": [name for name, one in model.named_parameters() if one.requires_grad],
            "kinds": Counter(type(module).__name__ for module in model.modules()),
            "types": Counter(str(one.dtype).removeprefix("torch.") for one in model.parameters()),
            "optimizer": type(getattr(optimizer, "optimizer", optimizer)).__name__,
            "rates": sorted({group["initial_lr"] for group in optimizer.param_groups if "initial_lr" in group}),
            "attention": config._attn_implementation,
            "dropouts": sorted({one.attention_dropout for one in model.modules() if hasattr(one, "attention_dropout")}),
            "placed": [one.placed_hidden_dropout for one in model.modules() if hasattr(one, "placed_hidden_dropout")],
            "recomputed": sum(bool(getattr(one, "gradient_checkpointing", False)) for one in model.modules()),
            "noisy": any("neftune" in str(hook) for one in model.modules() for hook in one._forward_hooks.values()),
        }
        states = [getattr(getattr(one, "weight", None), "quant_state", None) for one in model.modules()]
        self.seen["quantised"] = sorted(
            {(one.quant_type, bool(getattr(one, "original_nested", one.nested))) for one in states if one is not None}
        )
        self.hook = model.register_forward_hook(self.forward, with_kwargs=True)
        first = next(one for name, one in model.named_modules() if name.endswith("q_proj"))
        first.register_forward_hook(self.product)

    def product(self, module: Any, given: Any, result: Any) -> None:
        self.seen["products"] = str(result.dtype).removeprefix("torch.")

    def forward(self, model: Any, _: Any, given: dict[str, Any], result: Any) -> None:
        mask = given.get("attention_mask")
        logits = getattr(result, "logits", None)
        self.seen |= {
            "logits": str(getattr(logits, "dtype", "")).removeprefix("torch."),
            "rows": list(given["input_ids"].shape),
            "mask": [mask.dim(), int(mask.max())] if mask is not None and mask.dtype != torch.bool else [],
        }
        self.hook.remove()

    def on_step_end(self, args: Any, state: Any, control: Any, **at: Any) -> None:
        also = {name for name, one in at["model"].named_parameters() if one.requires_grad}
        self.seen["open"] = sorted({*self.seen["open"], *also})  # BAdam goes from layer to layer

    def on_train_end(self, args: Any, state: Any, control: Any, **at: Any) -> None:
        model, optimizer = at["model"], at["optimizer"]
        now = dict(model.named_parameters())
        self.seen["trained"] = [name for name, old in self.before.items() if not torch.equal(old, now[name].detach())]
        optimizer = getattr(optimizer, "optimizer", optimizer)
        kept = [one for values in optimizer.state.values() if isinstance(values, dict) for one in values.values()]
        tensors = [one for one in kept if isinstance(one, torch.Tensor)]
        self.seen["state"] = Counter(str(one.dtype).removeprefix("torch.") for one in tensors)
        self.seen["kept"] = sum(one.numel() for one in tensors)
        self.seen["steps"] = state.global_step
        Path(args.output_dir, "probe.json").write_text(json.dumps(self.seen), encoding="utf-8")
