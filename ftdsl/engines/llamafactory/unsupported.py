"""Keys that LLaMA-Factory's code lowers beside its overlay, and keys it has nothing for."""

from __future__ import annotations

LOWERED = frozenset(
    "data mix evaluate.data guard.nan guard.leak metrics seed model max_len limit track.project push attention_dropout "
    "hidden_dropout callbacks".split()
)
"""Dotted keys that something other than the overlay, or a lowering of the same name, carries out."""

_OTHER_METHOD = "write `lora { }`, which it has in their place"

UNSUPPORTED = {
    "adapter": ("LLaMA-Factory has no bottleneck adapters", _OTHER_METHOD),
    "prefix": ("LLaMA-Factory has no trainable prefixes", _OTHER_METHOD),
    "tasks": ("LLaMA-Factory 0.9.5 runs no benchmarks", "run lm-eval in a `shell` stage, on `{merge.path}`"),
    "shots": ("LLaMA-Factory 0.9.5 runs no benchmarks", "drop it"),
    "backend": ("LLaMA-Factory scores with transformers only", "drop it"),
    "against": (
        "scores are not reported as differences yet",
        "score the other model in an `eval` stage, and write `gate { loss = no_worse(NAME) }`",
    ),
    "weights": ("adapters cannot be weighted: LLaMA-Factory merges one after the other", "drop it"),
    "lora.experts": ("LLaMA-Factory has no mixture of adapters", "drop it; a larger `rank` is the nearest thing"),
    "lora.rank_budget": ("LLaMA-Factory has no adaptive rank", "drop it"),
    "tokenizer.pad": ("LLaMA-Factory takes the padding token of the template", "drop it"),
}
"""Dotted key, or method -> why the engine has nothing for it, and what to write instead."""
