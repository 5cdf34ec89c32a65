"""Keys that LLaMA-Factory's lowering code carries out in addition to the overlay, and keys that it does not support."""

from __future__ import annotations

LOWERED = frozenset(
    "data mix evaluate.data batch.ramp guard.nan guard.leak metrics seed model max_len limit track.project push "
    "attention_dropout hidden_dropout callbacks".split()
)
"""Dotted keys that neither the overlay nor a lowering of the same name carries out, but other code does."""

_TRL = "write `engine = trl` in this stage"

UNSUPPORTED = {
    "adapter": ("LLaMA-Factory has no bottleneck adapters", _TRL),
    "prefix": ("LLaMA-Factory has no trainable prefixes", _TRL),
    "prompt": ("LLaMA-Factory has no soft prompts", _TRL),
    "tasks": ("LLaMA-Factory 0.9.5 runs no benchmarks", "run lm-eval in a `shell` stage, on `{merge.path}`"),
    "shots": ("LLaMA-Factory 0.9.5 runs no benchmarks", "drop it"),
    "backend": ("LLaMA-Factory scores with transformers only", "drop it"),
    "against": (
        "scores are not reported as differences yet",
        "score the other model in an `eval` stage, and write `gate { loss = no_worse(NAME) }`",
    ),
    "weights": ("LLaMA-Factory merges adapters one after the other, without weights", "drop it"),
    "lora.experts": ("LLaMA-Factory has no mixture of adapters", _TRL),
    "lora.rank_budget": ("LLaMA-Factory has no dynamic rank", _TRL),
    "lora.target_parameters": ("LLaMA-Factory adapts modules, not parameters", _TRL),
    "tokenizer.pad": ("LLaMA-Factory uses the padding token of the template", "drop it"),
}
"""Dotted key or method -> why the engine does not support it, and what to write instead."""
