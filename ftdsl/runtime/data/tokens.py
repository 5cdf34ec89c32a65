"""Lengths in tokens, by the tokenizer of the model that will read the rows, where it is on this machine.

A length is that of the texts; what a chat template puts around them (a few tokens a turn) is not counted.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .checking import REASONS

BYTES = 4
"""Bytes of UTF-8 that make a token, where no tokenizer is at hand: English prose, within a third for most languages."""
Array = np.ndarray[Any, Any]


def at_hand(wanted: dict[str, Any] | None) -> tuple[str, str]:
    """(path of the tokenizer.json, "") or ("", why there is none)."""
    if not wanted:
        return "", "no stage with a model reads these rows"
    if "made_by" in wanted:
        return "", f"the tokenizer is made later, by `{wanted['made_by']}`"
    if "path" in wanted:
        path = os.path.join(wanted["path"], "tokenizer.json")
        return (path, "") if os.path.isfile(path) else ("", f"there is no tokenizer.json in {wanted['path']}")
    name = wanted["hub"]
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        cached = try_to_load_from_cache(name, "tokenizer.json", revision=wanted.get("revision"))
    except ImportError:
        return "", "this Python has no huggingface_hub to look for it"
    except HFValidationError:
        return "", f"`{name}` is no name on a hub"
    return (
        (cached, "")
        if isinstance(cached, str)
        else ("", f"the tokenizer of {name} is not in the cache of this machine")
    )


def name_of(wanted: dict[str, Any] | None) -> str:
    """The tokenizer's name in reports of lengths."""
    return str(wanted.get("hub") or wanted.get("path") or wanted.get("made_by")) if wanted else ""


class Counting:
    """Counts tokens, and marks rows that are too short or too long."""

    def __init__(self, spec: dict[str, Any]) -> None:
        path, self.why = at_hand(spec.get("tokenizer"))
        self._tokenizer: Any = None
        if path:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # processes of ours already share the cores
            try:
                from tokenizers import Tokenizer

                self._tokenizer = Tokenizer.from_file(path)
                self._tokenizer.no_truncation()
                self._tokenizer.no_padding()
            except Exception as error:  # tokenizers raises plain Exception
                self.why = f"{path} cannot be used ({str(error).splitlines()[0]})"
        self._range: tuple[int, int] | None = tuple(spec["tokens"]) if spec.get("tokens") else None
        self._longest: int | None = spec.get("longest")

    @property
    def exact(self) -> bool:
        """Whether a tokenizer counts, and not bytes."""
        return self._tokenizer is not None

    def count(self, texts: list[str]) -> Array:
        """Tokens of each text."""
        if not self._tokenizer:
            return np.array([-(-len(text.encode()) // BYTES) for text in texts], np.uint32)
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return np.array([len(tokens) for tokens in encoded], np.uint32)

    def judge(self, tokens: Array, why: Array) -> None:
        """Mark rows outside of `tokens`, and those longer than their reader takes."""
        if self._range:
            low, high = self._range
            why[(why == 0) & ((tokens < low) | (tokens > high))] = REASONS.index("tokens")
        if self._longest:
            why[(why == 0) & (tokens > self._longest)] = REASONS.index("too_long")
