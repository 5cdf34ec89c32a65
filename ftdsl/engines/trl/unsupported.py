"""Keys that TRL's lowering code carries out in addition to the overlay, and keys that it does not support."""

from __future__ import annotations

LOWERED = frozenset(
    "data mix evaluate.data batch.ramp guard.nan guard.leak metrics seed model max_len limit track.project push "
    "attention_dropout hidden_dropout callbacks tasks shots chat against backend".split()
)
"""Dotted keys that neither the overlay nor a lowering of the same name carries out, but other code does."""

_OTHER = "write `engine = llamafactory` in this stage"

UNSUPPORTED = {
    "freeze": ("TRL trains all weights or an adapter", f"write `lora {{ }}`, or {_OTHER.removeprefix('write ')}"),
    "oft": ("`oft { }` is LLaMA-Factory's method", _OTHER),
    "trainable": ("TRL stages train models of text", _OTHER),
    "tools": ("TRL stages read conversations without tools", _OTHER),
    "upcast": ("TRL keeps norms and logits in the dtype of the model", "drop it"),
    "tokenize": ("TRL stages tokenise their rows when they start", "drop it"),
    "loader.streaming": ("TRL stages read all rows before they train", _OTHER),
    "lora.lr_ratio": ("TRL has no LoRA+", _OTHER),
    "lora.layers": ("TRL has no LLaMA-Pro blocks", _OTHER),
}
"""Dotted key or method -> why the engine does not support it, and what to write instead."""
