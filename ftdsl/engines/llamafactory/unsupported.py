"""Keys that LLaMA-Factory's lowering code carries out in addition to the overlay, and keys that it does not support."""

from __future__ import annotations

LOWERED = frozenset(
    "data mix evaluate.data batch.ramp guard.nan guard.leak metrics seed model max_len limit track.project push "
    "attention_dropout hidden_dropout callbacks tasks shots chat against backend".split()
)
"""Dotted keys that neither the overlay nor a lowering of the same name carries out, but other code does."""

_TRL = "write `engine = trl` in this stage"

UNSUPPORTED = {
    "adapter": ("LLaMA-Factory has no bottleneck adapters", _TRL),
    "prefix": ("LLaMA-Factory has no trainable prefixes", _TRL),
    "prompt": ("LLaMA-Factory has no soft prompts", _TRL),
    "weights": (
        "adapters are merged one after the other, without weights",
        "write a `method`, such as `method = linear`",
    ),
    "models": (
        "adapters are merged into their base, and `models` are not looked at",
        "write a `method`, such as `method = linear`",
    ),
    "base": (
        "adapters are merged into the base they were trained on",
        "write a `method`, such as `method = ties`, or drop it",
    ),
    "densities": ("adapters are merged as they are, without densities", "write `method = ties`, or drop it"),
    "lora.experts": ("LLaMA-Factory has no mixture of adapters", _TRL),
    "lora.top_k": ("LLaMA-Factory has no mixture of adapters", _TRL),
    "lora.balance": ("LLaMA-Factory has no mixture of adapters", _TRL),
    "lora.rank_budget": ("LLaMA-Factory has no dynamic rank", _TRL),
    "lora.target_parameters": ("LLaMA-Factory adapts modules, not parameters", _TRL),
    "tokenizer.pad": ("LLaMA-Factory uses the padding token of the template", "drop it"),
}
"""Dotted key or method -> why the engine does not support it, and what to write instead."""
